/*
 * crypto.h - how every byte of a repository is sealed
 *
 *   sealed = IV (16 random bytes) | AES-256-CTR(plain) | MAC (16 bytes)
 *
 * The MAC is Poly1305-AES over the ciphertext: one-time key r | AES-128_k(IV).
 * OpenSSL does the arithmetic; this file only puts its parts together.
 *
 * Source: restic's design document, "Keys, Encryption and MAC".
 */
#pragma once

#include "repository/repository.h"

#define KVSS_CRYPTO_IV_LENGTH 16
#define KVSS_CRYPTO_MAC_LENGTH 16
#define KVSS_CRYPTO_OVERHEAD (KVSS_CRYPTO_IV_LENGTH + KVSS_CRYPTO_MAC_LENGTH)

/** A key pair: for the content of a repository, or made from a password. */
typedef struct {
    uint8_t encrypt[32];
    uint8_t mac_k[16];
    uint8_t mac_r[16];
} KvssKey;

/** A key of zeroes in memory for secrets. */
KvssKey *kvss_key_new(void);

/** Wipes and frees. Accepts NULL. */
void kvss_key_free(KvssKey *key);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(KvssKey, kvss_key_free)

/** The contexts that one thread needs; nothing in here may be shared between two at a time. */
typedef struct KvssCrypto KvssCrypto;

/** @key: (borrowed) copied into the contexts, which wipe it when freed. */
KvssCrypto *kvss_crypto_new(const KvssKey *key);
void kvss_crypto_free(KvssCrypto *crypto);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(KvssCrypto, kvss_crypto_free)

/**
 * kvss_crypto_seal:
 * @sealed: @plain_length + KVSS_CRYPTO_OVERHEAD bytes; the plaintext begins at byte 16
 *
 * Encrypts in place, with a new random IV, and puts IV and MAC around.
 */
void kvss_crypto_seal(KvssCrypto *crypto, uint8_t *sealed, size_t plain_length);

/**
 * kvss_crypto_open:
 * @sealed: @length bytes; afterwards the plaintext lies at byte 16
 *
 * Checks the MAC first, then decrypts in place.
 *
 * Errors: CORRUPT, "too short" or "authentication failed"; @sealed is unchanged then.
 */
bool kvss_crypto_open(KvssCrypto *crypto, uint8_t *sealed, size_t length, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

/** SHA-256 in this thread's context. */
void kvss_crypto_hash(KvssCrypto *crypto, const void *data, size_t length,
                      uint8_t out_id[KVSS_ID_LENGTH]);

/** Fills with bytes from the system's generator; a generator that fails ends the program. */
void kvss_crypto_random(void *buffer, size_t length);

/**
 * kvss_crypto_scrypt:
 * @n, @r, @p: scrypt's parameters, which come from a file: bounded to 1 GiB of memory
 *
 * The key that @password stands for. Blocks: that is its purpose.
 * Errors: FORMAT for parameters out of bounds.
 */
bool kvss_crypto_scrypt(const char *password, const uint8_t *salt, size_t salt_length,
                        uint64_t n, uint64_t r, uint64_t p, KvssKey *out_key, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

/** Overwrites the key. */
void kvss_key_wipe(KvssKey *key);
