/*
 * polynomial.c - the polynomial by which restic cuts files into chunks
 *
 * f of degree n is irreducible when gcd(f, x^(2^i) - x) = 1 for i = 1 .. n/2
 * (Ben-Or). About one in 53 candidates is, and most others fall at once.
 */
#include "repository/format/crypto.h"
#include "repository/format/polynomial.h"

#define DEGREE 53

static int
degree(uint64_t a)
{
    return a ? 63 - __builtin_clzll(a) : -1;
}

static uint64_t
mod(uint64_t a, uint64_t f)
{
    while (degree(a) >= degree(f))
        a ^= f << (degree(a) - degree(f));
    return a;
}

static uint64_t
gcd(uint64_t a, uint64_t b)
{
    while (b) {
        uint64_t rest = mod(a, b);

        a = b;
        b = rest;
    }
    return a;
}

/* a * b mod f; all below degree(f) <= 53, so that nothing is shifted out. */
static uint64_t
multiply_mod(uint64_t a, uint64_t b, uint64_t f)
{
    uint64_t product = 0;

    for (; b; b >>= 1) {
        if (b & 1)
            product ^= a;
        a = mod(a << 1, f);
    }
    return product;
}

bool
kvss_polynomial_is_irreducible(uint64_t polynomial)
{
    uint64_t power = mod(2, polynomial); /* x^(2^i), beginning with x */

    for (int i = 1; i <= degree(polynomial) / 2; i++) {
        power = multiply_mod(power, power, polynomial);
        if (gcd(polynomial, power ^ mod(2, polynomial)) != 1)
            return false;
    }
    return degree(polynomial) > 0;
}

uint64_t
kvss_polynomial_random(void)
{
    uint64_t candidate;

    do {
        kvss_crypto_random(&candidate, sizeof candidate);
        candidate &= (G_GUINT64_CONSTANT(1) << DEGREE) - 1;
        candidate |= G_GUINT64_CONSTANT(1) << DEGREE | 1;
    } while (!kvss_polynomial_is_irreducible(candidate));
    return candidate;
}
