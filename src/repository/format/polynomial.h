/*
 * polynomial.h - the polynomial by which restic cuts files into chunks
 *
 * We cut at fixed offsets and never use it, but a repository must have one so
 * that restic can back up into it: irreducible over GF(2), of degree 53.
 */
#pragma once

#include "repository/repository.h"

/** A random one. Bit i is the coefficient of x^i. */
uint64_t kvss_polynomial_random(void);

/** Ben-Or's test, for degrees 1 to 53. */
bool kvss_polynomial_is_irreducible(uint64_t polynomial);
