/*
 * crypto.c - how every byte of a repository is sealed
 *
 * OpenSSL's calls fail here only for want of memory or a broken installation,
 * so a failure is an assertion and not an error to hand on.
 *
 * What it makes of a key for itself (the rounds of AES) lies in its own memory,
 * which cannot be locked from here, and which it wipes when its context is freed.
 */
#include "base/secret.h"
#include "repository/format/crypto.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <openssl/rand.h>
#include <string.h>

/* What one password attempt may cost: a hostile key file must not take the machine. */
#define SCRYPT_MEMORY_MAX (G_GUINT64_CONSTANT(1) << 30)
#define SCRYPT_WORK_MAX (G_GUINT64_CONSTANT(1) << 28) /* N x r x p; restic's own is about 2^20 */

struct KvssCrypto {
    EVP_CIPHER_CTX *cipher;     /* AES-256-CTR with the key set */
    EVP_CIPHER_CTX *nonce;      /* AES-128-ECB with k set: one block a MAC */
    EVP_MAC_CTX *mac;
    EVP_MD_CTX *hash;
    EVP_MD *sha256;
    uint8_t mac_key[32];        /* r, then the block made from the IV */
};

static EVP_CIPHER_CTX *
cipher_new(const char *name, const uint8_t *key)
{
    EVP_CIPHER *cipher = EVP_CIPHER_fetch(NULL, name, NULL);
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();

    g_assert(cipher && ctx);
    g_assert(EVP_EncryptInit_ex2(ctx, cipher, key, NULL, NULL) == 1);
    EVP_CIPHER_CTX_set_padding(ctx, 0);
    EVP_CIPHER_free(cipher); /* the context keeps its own reference */
    return ctx;
}

KvssCrypto *
kvss_crypto_new(const KvssKey *key)
{
    KvssCrypto *crypto = kvss_secret_new(sizeof *crypto);
    EVP_MAC *poly1305 = EVP_MAC_fetch(NULL, "POLY1305", NULL);

    crypto->cipher = cipher_new("AES-256-CTR", key->encrypt);
    crypto->nonce = cipher_new("AES-128-ECB", key->mac_k);
    crypto->mac = EVP_MAC_CTX_new(poly1305);
    crypto->hash = EVP_MD_CTX_new();
    crypto->sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
    memcpy(crypto->mac_key, key->mac_r, sizeof key->mac_r);
    g_assert(crypto->mac && crypto->hash && crypto->sha256);
    EVP_MAC_free(poly1305);
    return crypto;
}

void
kvss_crypto_free(KvssCrypto *crypto)
{
    if (!crypto)
        return;
    EVP_CIPHER_CTX_free(crypto->cipher);
    EVP_CIPHER_CTX_free(crypto->nonce);
    EVP_MAC_CTX_free(crypto->mac);
    EVP_MD_CTX_free(crypto->hash);
    EVP_MD_free(crypto->sha256);
    kvss_secret_free(crypto);
}

/* EVP takes an int; a blob may be larger than that can hold. */
static void
apply_cipher(EVP_CIPHER_CTX *ctx, uint8_t *data, size_t length)
{
    while (length > 0) {
        int part = (int) MIN(length, (size_t) 1 << 30);
        int done;

        g_assert(EVP_EncryptUpdate(ctx, data, &done, data, part) == 1 && done == part);
        data += part;
        length -= (size_t) part;
    }
}

static void
compute_mac(KvssCrypto *crypto, const uint8_t *iv, const uint8_t *data, size_t length,
            uint8_t out_mac[KVSS_CRYPTO_MAC_LENGTH])
{
    size_t mac_length;
    int done;

    /* OpenSSL clamps r, as Poly1305 demands. */
    g_assert(EVP_EncryptUpdate(crypto->nonce, crypto->mac_key + 16, &done, iv, 16) == 1);
    g_assert(EVP_MAC_init(crypto->mac, crypto->mac_key, sizeof crypto->mac_key, NULL) == 1);
    g_assert(EVP_MAC_update(crypto->mac, data, length) == 1);
    g_assert(EVP_MAC_final(crypto->mac, out_mac, &mac_length, KVSS_CRYPTO_MAC_LENGTH) == 1);
    g_assert(mac_length == KVSS_CRYPTO_MAC_LENGTH);
}

/* CTR mode is its own inverse. */
static void
apply_keystream(KvssCrypto *crypto, const uint8_t *iv, uint8_t *data, size_t length)
{
    g_assert(EVP_EncryptInit_ex2(crypto->cipher, NULL, NULL, iv, NULL) == 1);
    apply_cipher(crypto->cipher, data, length);
}

void
kvss_crypto_seal(KvssCrypto *crypto, uint8_t *sealed, size_t plain_length)
{
    uint8_t *data = sealed + KVSS_CRYPTO_IV_LENGTH;

    kvss_crypto_random(sealed, KVSS_CRYPTO_IV_LENGTH);
    apply_keystream(crypto, sealed, data, plain_length);
    compute_mac(crypto, sealed, data, plain_length, data + plain_length);
}

bool
kvss_crypto_open(KvssCrypto *crypto, uint8_t *sealed, size_t length, GError **error)
{
    uint8_t *data = sealed + KVSS_CRYPTO_IV_LENGTH;
    uint8_t mac[KVSS_CRYPTO_MAC_LENGTH];
    size_t plain_length;

    if (length < KVSS_CRYPTO_OVERHEAD)
        return kvss_throw(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_CORRUPT,
                          "%zu bytes are too short for anything sealed", length);

    plain_length = length - KVSS_CRYPTO_OVERHEAD;
    compute_mac(crypto, sealed, data, plain_length, mac);
    if (CRYPTO_memcmp(mac, data + plain_length, sizeof mac) != 0)
        return kvss_throw(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_CORRUPT,
                          "authentication failed: the content was changed or damaged");

    apply_keystream(crypto, sealed, data, plain_length);
    return true;
}

void
kvss_crypto_hash(KvssCrypto *crypto, const void *data, size_t length,
                 uint8_t out_id[KVSS_ID_LENGTH])
{
    g_assert(EVP_DigestInit_ex2(crypto->hash, crypto->sha256, NULL) == 1);
    g_assert(EVP_DigestUpdate(crypto->hash, data, length) == 1);
    g_assert(EVP_DigestFinal_ex(crypto->hash, out_id, NULL) == 1);
}

void
kvss_crypto_random(void *buffer, size_t length)
{
    if (RAND_bytes(buffer, (int) length) != 1)
        g_error("the random generator failed");
}

static bool
scrypt_check(uint64_t n, uint64_t r, uint64_t p, GError **error)
{
    bool sane = n >= 2 && (n & (n - 1)) == 0 && n <= 1u << 24 && r >= 1 && r <= 1024 && p >= 1
        && p <= 1024 && n * r <= SCRYPT_MEMORY_MAX / 128 && n * r * p <= SCRYPT_WORK_MAX;

    if (sane)
        return true;
    return kvss_throw(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_FORMAT,
                      "scrypt parameters N=%" G_GUINT64_FORMAT " r=%" G_GUINT64_FORMAT
                      " p=%" G_GUINT64_FORMAT " are out of bounds", n, r, p);
}

bool
kvss_crypto_scrypt(const char *password, const uint8_t *salt, size_t salt_length, uint64_t n,
                   uint64_t r, uint64_t p, KvssKey *out_key, GError **error)
{
    uint64_t memory_max = SCRYPT_MEMORY_MAX + (64u << 20); /* room for scrypt's small buffers */
    EVP_KDF *kdf;
    EVP_KDF_CTX *ctx;
    int done;

    if (!scrypt_check(n, r, p, error))
        return false;

    G_STATIC_ASSERT(sizeof *out_key == 64); /* the three keys as scrypt gives them, end to end */
    kdf = EVP_KDF_fetch(NULL, "SCRYPT", NULL);
    ctx = EVP_KDF_CTX_new(kdf);
    g_assert(ctx);
    done = EVP_KDF_derive(ctx, (unsigned char *) out_key, sizeof *out_key, (OSSL_PARAM[]) {
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_PASSWORD, (void *) password,
                                          strlen(password)),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SALT, (void *) salt, salt_length),
        OSSL_PARAM_construct_uint64(OSSL_KDF_PARAM_SCRYPT_N, &n),
        OSSL_PARAM_construct_uint64(OSSL_KDF_PARAM_SCRYPT_R, &r),
        OSSL_PARAM_construct_uint64(OSSL_KDF_PARAM_SCRYPT_P, &p),
        OSSL_PARAM_construct_uint64(OSSL_KDF_PARAM_SCRYPT_MAXMEM, &memory_max),
        OSSL_PARAM_construct_end(),
    });
    EVP_KDF_CTX_free(ctx);
    EVP_KDF_free(kdf);
    if (done != 1)
        return kvss_throw(error, KVSS_REPOSITORY_ERROR, KVSS_REPOSITORY_ERROR_FORMAT,
                          "scrypt refused its parameters");
    return true;
}

KvssKey *
kvss_key_new(void)
{
    return kvss_secret_new(sizeof(KvssKey));
}

void
kvss_key_free(KvssKey *key)
{
    kvss_secret_free(key);
}

void
kvss_key_wipe(KvssKey *key)
{
    OPENSSL_cleanse(key, sizeof *key);
}
