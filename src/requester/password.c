/*
 * password.c - where the repository's password comes from
 *
 * Never from the command line, where every user of the machine can read it. What
 * was read is wiped when it is no longer needed.
 */
#include "requester/config.h"

#include <errno.h>
#include <fcntl.h>
#include <gio/gio.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/secret.h"

#define PASSWORD_MAX 4096

#define throw_password(error, ...) \
    kvss_throw(error, KVSS_USAGE_ERROR, KVSS_USAGE_ERROR_PASSWORD, __VA_ARGS__)

void
kvss_config_password_free(char *password)
{
    kvss_secret_free(password);
}

/* The text without white space at both ends. NULL when nothing is left. */
static char *
trimmed(const char *text)
{
    const char *start = text + strspn(text, " \t\r\n\v\f");
    size_t length = strlen(start);

    while (length > 0 && strchr(" \t\r\n\v\f", start[length - 1]))
        length--;
    return length > 0 ? kvss_secret_text(start, length) : NULL;
}

/* Once: a command may open the repository twice. */
static void
warn_if_open(int fd, const char *path)
{
    static bool is_told;
    struct stat st;

    if (is_told)
        return;
    is_told = fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && (st.st_mode & 077);
    if (is_told)
        g_warning("%s can be read by others: 'chmod 600 %s' keeps the password private", path,
                  path);
}

/* All of the file, or as much of it as a password may have; false with errno. */
static bool
read_all(int fd, char *text)
{
    size_t length = 0;
    ssize_t n;

    while (length < PASSWORD_MAX && (n = read(fd, text + length, PASSWORD_MAX - length)) != 0) {
        if (n < 0 && errno != EINTR)
            return false;
        length += n > 0 ? (size_t) n : 0;
    }
    return true;
}

static char *
read_password_file(const char *path, GError **error)
{
    kvss_autofd int fd = open(path, O_RDONLY | O_CLOEXEC);
    char *text, *password = NULL;

    if (fd < 0) {
        throw_password(error, "password file %s: %s", path, g_strerror(errno));
        return NULL;
    }
    warn_if_open(fd, path);
    text = kvss_secret_new(PASSWORD_MAX + 1);
    if (!read_all(fd, text))
        throw_password(error, "password file %s: %s", path, g_strerror(errno));
    else if (!(password = trimmed(text)))
        throw_password(error, "password file %s is empty", path);
    kvss_secret_free(text);
    return password;
}

/* ---- asking ---- */

/* One line from the terminal, or false when cancelled or at its end. */
static bool
read_line(char *line, size_t size, GCancellable *cancellable)
{
    struct pollfd fds[] = {
        { .fd = STDIN_FILENO, .events = POLLIN },
        { .fd = cancellable ? g_cancellable_get_fd(cancellable) : -1, .events = POLLIN },
    };
    bool ok = false;
    ssize_t n;

    while (poll(fds, 2, -1) < 0 && errno == EINTR)
        continue;
    if (!fds[1].revents && (n = read(STDIN_FILENO, line, size - 1)) > 0) {
        line[n] = '\0';
        line[strcspn(line, "\r\n")] = '\0';
        ok = true;
    }
    if (cancellable)
        g_cancellable_release_fd(cancellable);
    return ok;
}

static char *
ask(const char *question, GCancellable *cancellable, GError **error)
{
    struct termios before, quiet;
    char *line, *password = NULL;
    bool ok;

    if (tcgetattr(STDIN_FILENO, &before) < 0) {
        kvss_throw_errno(error, errno, "terminal");
        return NULL;
    }
    line = kvss_secret_new(PASSWORD_MAX + 1);
    quiet = before;
    quiet.c_lflag &= ~(tcflag_t) ECHO;
    (void) tcsetattr(STDIN_FILENO, TCSAFLUSH, &quiet); /* first: what is typed after the question counts */
    fprintf(stderr, "%s: ", question);
    ok = read_line(line, PASSWORD_MAX + 1, cancellable);
    (void) tcsetattr(STDIN_FILENO, TCSAFLUSH, &before);
    fputc('\n', stderr);
    if (kvss_check_cancelled(cancellable, error)) {
        password = ok ? trimmed(line) : NULL;
        if (!password)
            throw_password(error, "no password was given");
    }
    kvss_secret_free(line);
    return password;
}

static char *
ask_new(const char *question, GCancellable *cancellable, GError **error)
{
    char *password = ask(question, cancellable, error);
    char *again = password ? ask("The same again", cancellable, error) : NULL;
    bool same = again && strcmp(password, again) == 0;

    if (again && !same)
        throw_password(error, "the two passwords differ");
    kvss_config_password_free(again);
    if (same)
        return password;
    kvss_config_password_free(password);
    return NULL;
}

static bool
can_ask(void)
{
    return isatty(STDIN_FILENO) && isatty(STDERR_FILENO);
}

/* ---- */

/* The environment under one of two prefixes: a file first, then the password itself. */
static bool
from_environment(const char *file_variable, const char *variable, char **out, GError **error)
{
    const char *file = g_getenv(file_variable);
    const char *password = g_getenv(variable);

    if (file && *file)
        *out = read_password_file(file, error);
    else if (password && *password)
        *out = kvss_secret_text(password, strlen(password));
    else
        return false;
    return true;
}

char *
kvss_config_password(const KvssConfig *config, const KvssOptions *options, bool is_new,
                     bool may_ask, GCancellable *cancellable, GError **error)
{
    char *password = NULL;

    if (options->password_file)
        return read_password_file(options->password_file, error);
    if (from_environment("KVSS_PASSWORD_FILE", "KVSS_PASSWORD", &password, error))
        return password;
    if (config->password_file)
        return read_password_file(config->password_file, error);
    if (from_environment("RESTIC_PASSWORD_FILE", "RESTIC_PASSWORD", &password, error))
        return password;
    if (may_ask && can_ask())
        return is_new ? ask_new("Password for the new repository", cancellable, error)
                      : ask("Password of the repository", cancellable, error);
    throw_password(error, "no password: give --password-file FILE or set KVSS_PASSWORD_FILE");
    return NULL;
}

char *
kvss_config_new_password(const KvssOptions *options, GCancellable *cancellable, GError **error)
{
    char *password = NULL;

    if (options->new_password_file)
        return read_password_file(options->new_password_file, error);
    if (from_environment("KVSS_NEW_PASSWORD_FILE", "KVSS_NEW_PASSWORD", &password, error))
        return password;
    if (can_ask())
        return ask_new("New password", cancellable, error);
    throw_password(error, "no new password: give --new-password-file FILE or set "
                          "KVSS_NEW_PASSWORD_FILE");
    return NULL;
}
