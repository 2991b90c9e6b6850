/*
 * lanes.c - SHA-256 of several messages at once
 *
 * A lane is a message on its way: its state, and a run of whole blocks that come
 * next. A step takes as many blocks of several lanes as the shortest of their runs
 * has. The last run of a message is its padding. A lane that is free takes the next message.
 *
 * Source: FIPS 180-4, sections 4.1.2, 4.2.2, 5.1.1, 5.3.3, 6.2.2.
 */
#include "repository/format/lanes.h"

#include <glib.h>
#include <openssl/evp.h>
#include <string.h>

#define BLOCK 64
#define WORDS 8     /* of a state */

/* ---- OpenSSL, one by one ---- */

static void
hash_one_by_one(const KvssMessage *messages, size_t n)
{
    static EVP_MD *sha256;
    EVP_MD_CTX *ctx;

    if (g_once_init_enter(&sha256))
        g_once_init_leave(&sha256, EVP_MD_fetch(NULL, "SHA256", NULL));
    ctx = EVP_MD_CTX_new();
    g_assert(ctx && sha256);
    for (size_t i = 0; i < n; i++) {
        g_assert(EVP_DigestInit_ex2(ctx, sha256, NULL) == 1);
        g_assert(EVP_DigestUpdate(ctx, messages[i].data, messages[i].length) == 1);
        g_assert(EVP_DigestFinal_ex(ctx, messages[i].out_digest, NULL) == 1);
    }
    EVP_MD_CTX_free(ctx);
}

#ifdef __x86_64__

#include <immintrin.h>

static const uint32_t round_constants[64] __attribute__((aligned(64))) = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static const uint32_t first_state[WORDS] = {
    0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
};

typedef struct {
    uint32_t state[WORDS];
    const uint8_t *at;  /* the run of blocks that comes next */
    size_t blocks;      /* of it; 0 only between two runs */
    bool is_padding;    /* this run is the last */
    const KvssMessage *message;
    uint8_t padding[2 * BLOCK];
} Lane;

/* ---- AVX-512: a word of sixteen messages in one register ---- */

#define AVX512 __attribute__((target("avx512f,avx512bw")))
#define SIXTEEN 16

/* The order of the bytes of each word the other way round: messages are big-endian. */
#define SWAP 12, 13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3

/* Any function of three bits, by its truth table. */
#define PARITY(x, y, z) _mm512_ternarylogic_epi32(x, y, z, 0x96)
#define CHOOSE(x, y, z) _mm512_ternarylogic_epi32(x, y, z, 0xca)
#define MAJORITY(x, y, z) _mm512_ternarylogic_epi32(x, y, z, 0xe8)
#define TURNS(x, i, j, k) \
    PARITY(_mm512_ror_epi32(x, i), _mm512_ror_epi32(x, j), _mm512_ror_epi32(x, k))
#define TURNS_AND_SHIFT(x, i, j, k) \
    PARITY(_mm512_ror_epi32(x, i), _mm512_ror_epi32(x, j), _mm512_srli_epi32(x, k))

AVX512 static inline __m512i
plus(__m512i a, __m512i b)
{
    return _mm512_add_epi32(a, b);
}

/* Rows become columns: sixteen words of each of sixteen messages to a word of all in each. */
AVX512 static inline __attribute__((always_inline)) void
transpose(__m512i row[SIXTEEN])
{
    __m512i quad[SIXTEEN];

#pragma GCC unroll 4
    for (int i = 0; i < SIXTEEN; i += 4) {
        __m512i low01 = _mm512_unpacklo_epi32(row[i], row[i + 1]);
        __m512i high01 = _mm512_unpackhi_epi32(row[i], row[i + 1]);
        __m512i low23 = _mm512_unpacklo_epi32(row[i + 2], row[i + 3]);
        __m512i high23 = _mm512_unpackhi_epi32(row[i + 2], row[i + 3]);

        quad[i] = _mm512_unpacklo_epi64(low01, low23);
        quad[i + 1] = _mm512_unpackhi_epi64(low01, low23);
        quad[i + 2] = _mm512_unpacklo_epi64(high01, high23);
        quad[i + 3] = _mm512_unpackhi_epi64(high01, high23);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        __m512i even_low = _mm512_shuffle_i32x4(quad[i], quad[i + 4], 0x88);
        __m512i odd_low = _mm512_shuffle_i32x4(quad[i], quad[i + 4], 0xdd);
        __m512i even_high = _mm512_shuffle_i32x4(quad[i + 8], quad[i + 12], 0x88);
        __m512i odd_high = _mm512_shuffle_i32x4(quad[i + 8], quad[i + 12], 0xdd);

        row[i] = _mm512_shuffle_i32x4(even_low, even_high, 0x88);
        row[i + 4] = _mm512_shuffle_i32x4(odd_low, odd_high, 0x88);
        row[i + 8] = _mm512_shuffle_i32x4(even_low, even_high, 0xdd);
        row[i + 12] = _mm512_shuffle_i32x4(odd_low, odd_high, 0xdd);
    }
}

/*
 * Sixteen rounds from round @first on. A loop whose body is unrolled: every index
 * is a constant, so that words and state stay in registers. What the next round
 * waits for comes last in each sum.
 */
AVX512 static inline __attribute__((always_inline)) void
sixteen_rounds(__m512i s[WORDS], __m512i word[16], int first, bool is_last)
{
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++) {
        __m512i a = s[(16 - i) & 7], b = s[(17 - i) & 7], c = s[(18 - i) & 7];
        __m512i e = s[(20 - i) & 7], f = s[(21 - i) & 7], g = s[(22 - i) & 7];
        __m512i sum = plus(word[i], _mm512_set1_epi32((int) round_constants[first + i]));

        sum = plus(s[(23 - i) & 7], sum);
        __asm__("" : "+v"(sum)); /* keeps the compiler from summing in another order */
        sum = plus(sum, CHOOSE(e, f, g));
        __asm__("" : "+v"(sum));
        sum = plus(sum, TURNS(e, 6, 11, 25));
        __asm__("" : "+v"(sum));
        s[(19 - i) & 7] = plus(s[(19 - i) & 7], sum);
        s[(23 - i) & 7] = plus(sum, plus(TURNS(a, 2, 13, 22), MAJORITY(a, b, c)));
    }
    if (is_last)
        return;
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++)
        word[i] = plus(plus(word[i], TURNS_AND_SHIFT(word[(i + 1) & 15], 7, 18, 3)),
                       plus(word[(i + 9) & 15], TURNS_AND_SHIFT(word[(i + 14) & 15], 17, 19, 10)));
}

AVX512 static void
step_avx512(Lane *const lanes[SIXTEEN], size_t n_blocks)
{
    const __m512i swap = _mm512_broadcast_i32x4(_mm_set_epi8(SWAP));
    uint32_t columns[WORDS][SIXTEEN] __attribute__((aligned(64)));
    const uint8_t *at[SIXTEEN];
    __m512i s[WORDS];

    for (int lane = 0; lane < SIXTEEN; lane++) {
        at[lane] = lanes[lane]->at;
        for (int i = 0; i < WORDS; i++)
            columns[i][lane] = lanes[lane]->state[i];
    }
#pragma GCC unroll 8
    for (int i = 0; i < WORDS; i++)
        s[i] = _mm512_load_si512(columns[i]);
    for (size_t offset = 0; offset < n_blocks * BLOCK; offset += BLOCK) {
        __m512i before[WORDS], word[16];

#pragma GCC unroll 16
        for (int i = 0; i < SIXTEEN; i++)
            word[i] = _mm512_shuffle_epi8(_mm512_loadu_si512(at[i] + offset), swap);
        transpose(word);
#pragma GCC unroll 8
        for (int i = 0; i < WORDS; i++)
            before[i] = s[i];
        for (int first = 0; first < 48; first += 16)
            sixteen_rounds(s, word, first, false);
        sixteen_rounds(s, word, 48, true);
#pragma GCC unroll 8
        for (int i = 0; i < WORDS; i++)
            s[i] = plus(s[i], before[i]);
    }
#pragma GCC unroll 8
    for (int i = 0; i < WORDS; i++)
        _mm512_store_si512(columns[i], s[i]);
    for (int lane = 0; lane < SIXTEEN; lane++)
        for (int i = 0; i < WORDS; i++)
            lanes[lane]->state[i] = columns[i][lane];
}

/* ---- SHA-NI: up to four messages, an instruction of each in turn ---- */

/*
 * With AVX, and with the upper halves of its registers cleared before: where they are
 * not, each instruction of the old kind waits for the last that wrote its register,
 * which is four times slower. Who left them so does not matter.
 */
#define SHA_NI __attribute__((target("sha,avx")))
#define FOUR 4

/* The instructions want a state as ABEF and CDGH. */
SHA_NI static inline void
load_state(const uint32_t state[WORDS], __m128i *out_abef, __m128i *out_cdgh)
{
    __m128i abcd = _mm_shuffle_epi32(_mm_loadu_si128((const void *) state), 0xb1);
    __m128i efgh = _mm_shuffle_epi32(_mm_loadu_si128((const void *) (state + 4)), 0x1b);

    *out_abef = _mm_alignr_epi8(abcd, efgh, 8);
    *out_cdgh = _mm_blend_epi16(efgh, abcd, 0xf0);
}

SHA_NI static inline void
save_state(uint32_t state[WORDS], __m128i abef, __m128i cdgh)
{
    __m128i feba = _mm_shuffle_epi32(abef, 0x1b);
    __m128i dchg = _mm_shuffle_epi32(cdgh, 0xb1);

    _mm_storeu_si128((void *) state, _mm_blend_epi16(feba, dchg, 0xf0));
    _mm_storeu_si128((void *) (state + 4), _mm_alignr_epi8(dchg, feba, 8));
}

/* Four rounds; @words are added to their constants. */
SHA_NI static inline void
four_rounds(__m128i *abef, __m128i *cdgh, __m128i words, int first)
{
    __m128i sum
        = _mm_add_epi32(words, _mm_load_si128((const void *) &round_constants[first]));

    *cdgh = _mm_sha256rnds2_epu32(*cdgh, *abef, sum);
    *abef = _mm_sha256rnds2_epu32(*abef, *cdgh, _mm_shuffle_epi32(sum, 0x0e));
}

/* The four words that come sixteen after those in @word[@i]. */
SHA_NI static inline __m128i
next_words(const __m128i word[4], int i)
{
    __m128i later = word[(i + 3) & 3];
    __m128i sum = _mm_add_epi32(_mm_sha256msg1_epu32(word[i & 3], word[(i + 1) & 3]),
                                _mm_alignr_epi8(later, word[(i + 2) & 3], 4));

    return _mm_sha256msg2_epu32(sum, later);
}

/* @n is a constant to each caller: loops over it are gone in the code that is made. */
SHA_NI static inline __attribute__((always_inline)) void
step_in_turn(Lane *const lanes[], int n, size_t n_blocks)
{
    const __m128i swap = _mm_set_epi8(SWAP);
    __m128i abef[FOUR], cdgh[FOUR];

#pragma GCC unroll 4
    for (int lane = 0; lane < n; lane++)
        load_state(lanes[lane]->state, &abef[lane], &cdgh[lane]);
    for (size_t offset = 0; offset < n_blocks * BLOCK; offset += BLOCK) {
        __m128i before_abef[FOUR], before_cdgh[FOUR], word[FOUR][4];

#pragma GCC unroll 4
        for (int lane = 0; lane < n; lane++) {
            before_abef[lane] = abef[lane];
            before_cdgh[lane] = cdgh[lane];
        }
#pragma GCC unroll 16
        for (int i = 0; i < 16; i++)
#pragma GCC unroll 4
            for (int lane = 0; lane < n; lane++) {
                const uint8_t *at = lanes[lane]->at + offset + 16 * i;

                word[lane][i & 3] = i < 4
                    ? _mm_shuffle_epi8(_mm_loadu_si128((const void *) at), swap)
                    : next_words(word[lane], i);
                four_rounds(&abef[lane], &cdgh[lane], word[lane][i & 3], 4 * i);
            }
#pragma GCC unroll 4
        for (int lane = 0; lane < n; lane++) {
            abef[lane] = _mm_add_epi32(abef[lane], before_abef[lane]);
            cdgh[lane] = _mm_add_epi32(cdgh[lane], before_cdgh[lane]);
        }
    }
#pragma GCC unroll 4
    for (int lane = 0; lane < n; lane++)
        save_state(lanes[lane]->state, abef[lane], cdgh[lane]);
}

SHA_NI static void
step_sha_ni(Lane *const lanes[], size_t n, size_t n_blocks)
{
    _mm256_zeroupper();
    switch (n) {
    case 1:
        step_in_turn(lanes, 1, n_blocks);
        break;
    case 2:
        step_in_turn(lanes, 2, n_blocks);
        break;
    case 3:
        step_in_turn(lanes, 3, n_blocks);
        break;
    default:
        step_in_turn(lanes, 4, n_blocks);
    }
}

/* ---- lanes ---- */

/* Fewer messages than this are done sooner by fours. */
#define AVX512_MIN 11

/* What is left of the message, a one, zeroes, and its length in bits. */
static void
lane_pad(Lane *lane)
{
    size_t length = lane->message->length, left = length % BLOCK;
    uint64_t bits = GUINT64_TO_BE((uint64_t) length * 8);

    lane->blocks = left + 1 + sizeof bits <= BLOCK ? 1 : 2;
    memset(lane->padding, 0, sizeof lane->padding);
    if (left > 0)
        memcpy(lane->padding, (const uint8_t *) lane->message->data + length - left, left);
    lane->padding[left] = 0x80;
    memcpy(lane->padding + lane->blocks * BLOCK - sizeof bits, &bits, sizeof bits);
    lane->at = lane->padding;
    lane->is_padding = true;
}

static void
lane_begin(Lane *lane, const KvssMessage *message)
{
    memcpy(lane->state, first_state, sizeof first_state);
    lane->message = message;
    lane->at = message->data;
    lane->blocks = message->length / BLOCK;
    lane->is_padding = false;
    if (lane->blocks == 0)
        lane_pad(lane);
}

/* Behind @blocks more of its run; is the message at its end? */
static bool
lane_advance(Lane *lane, size_t blocks)
{
    lane->at += blocks * BLOCK;
    lane->blocks -= blocks;
    if (lane->blocks > 0)
        return false;
    if (lane->is_padding)
        return true;
    lane_pad(lane);
    return false;
}

static void
lane_end(const Lane *lane)
{
    for (int i = 0; i < WORDS; i++) {
        uint32_t word = GUINT32_TO_BE(lane->state[i]);

        memcpy(lane->message->out_digest + 4 * i, &word, sizeof word);
    }
}

static size_t
shortest_run(Lane *const lanes[], size_t n)
{
    size_t blocks = lanes[0]->blocks;

    for (size_t i = 1; i < n; i++)
        blocks = MIN(blocks, lanes[i]->blocks);
    return blocks;
}

/* Takes some of the @n lanes, the first ones, some blocks further; returns how many lanes. */
static size_t
step(KvssLanesWays ways, Lane *const lanes[], size_t n, size_t *out_blocks)
{
    Lane *sixteen[SIXTEEN];

    if (!(ways & KVSS_LANES_AVX512) || ((ways & KVSS_LANES_SHA_NI) && n < AVX512_MIN)) {
        n = MIN(n, FOUR);
        *out_blocks = shortest_run(lanes, n);
        step_sha_ni(lanes, n, *out_blocks);
        return n;
    }
    /* The lanes that are missing do once more what the first one does. */
    for (size_t i = 0; i < SIXTEEN; i++)
        sixteen[i] = lanes[i < n ? i : 0];
    *out_blocks = shortest_run(lanes, n);
    step_avx512(sixteen, *out_blocks);
    return n;
}

static void
hash_in_lanes(KvssLanesWays ways, const KvssMessage *messages, size_t n)
{
    size_t n_lanes = ways & KVSS_LANES_AVX512 ? SIXTEEN : FOUR;
    size_t n_busy = 0, begun = 0;
    Lane lane[SIXTEEN], *order[SIXTEEN]; /* those in use come first */

    for (size_t i = 0; i < SIXTEEN; i++)
        order[i] = &lane[i];
    while (n_busy > 0 || begun < n) {
        size_t blocks, stepped;

        while (n_busy < n_lanes && begun < n)
            lane_begin(order[n_busy++], &messages[begun++]);
        stepped = step(ways, order, n_busy, &blocks);
        for (size_t i = stepped; i-- > 0;) {
            Lane *ended = order[i];

            if (!lane_advance(ended, blocks))
                continue;
            lane_end(ended);
            order[i] = order[--n_busy];
            order[n_busy] = ended;
        }
    }
}

/* The compiler's own word for SHA-NI is missing in some. */
static bool
has_sha_ni(void)
{
    unsigned eax = 7, ebx = 0, ecx = 0, edx;

    if (__builtin_cpu_supports("avx"))
        __asm__("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
    return (ebx & 1u << 29) != 0;
}

KvssLanesWays
kvss_lanes_possible(void)
{
    bool has_avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw");

    return (has_sha_ni() ? KVSS_LANES_SHA_NI : 0) | (has_avx512 ? KVSS_LANES_AVX512 : 0);
}

#else

KvssLanesWays
kvss_lanes_possible(void)
{
    return 0;
}

#endif

void
kvss_lanes_hash_by(KvssLanesWays ways, const KvssMessage *messages, size_t n)
{
#ifdef __x86_64__
    if (ways && n > 1) {
        hash_in_lanes(ways, messages, n);
        return;
    }
#endif
    hash_one_by_one(messages, n);
}

static KvssLanesWays
ways_by_environment(void)
{
    const char *word = g_getenv("KVSS_SHA256");

    if (g_strcmp0(word, "openssl") == 0)
        return 0;
    if (g_strcmp0(word, "sha-ni") == 0)
        return kvss_lanes_possible() & KVSS_LANES_SHA_NI;
    return kvss_lanes_possible();
}

void
kvss_lanes_hash(const KvssMessage *messages, size_t n)
{
    static gsize ways; /* and one, so that it is never none */

    if (g_once_init_enter(&ways))
        g_once_init_leave(&ways, (gsize) ways_by_environment() + 1);
    kvss_lanes_hash_by((KvssLanesWays) (ways - 1), messages, n);
}
