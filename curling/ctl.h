/*
 * curlingctl: what its files share: errors, exit statuses, waiting
 *
 * Theory of operation.  curlingctl has one thread that matters and one main
 * loop, that of glib's default context.  Whatever takes time (a connection
 * being made, an answer on its way, a key, a change of the window's size, a
 * signal) is a source in it, and all that waits does so in ctl_wait(), which
 * runs that loop until a condition holds, the deadline has passed or somebody
 * pressed Ctrl-C.  So every wait has an end, and a command reads from top to
 * bottom.  SSH connections have a thread each (ctl-ssh.c), behind a file
 * descriptor.
 *
 *      command (ctl-protect.c, ...)
 *         |                  \
 *      ctl-pair     ctl-doctor, ctl-host (what the two hosts are like)
 *         |
 *      ctl-qmp      questions and answers, ctl-json for what is in them
 *         |
 *      ctl-reader   cuts bytes into JSON objects
 *         |
 *      ctl-endpoint unix:, tcp: or, with ctl-ssh, ssh:
 *
 * Errors are GErrors with one sentence, that says what to do.
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef CURLING_CTL_H
#define CURLING_CTL_H

#include <gio/gio.h>
#include <glib-unix.h>
#include <stdbool.h>
#include <stdint.h>

/* Exit statuses.  Of several pairs the worst one counts: see
 * ctl_exit_worse(). */
typedef enum CtlExit {
    CTL_EXIT_OK = 0,            /* done; of status: protected */
    CTL_EXIT_ERROR = 1,
    CTL_EXIT_USAGE = 2,
    CTL_EXIT_SYNCING = 3,       /* connecting or syncing */
    CTL_EXIT_UNPROTECTED = 4,
    CTL_EXIT_FAILED_OVER = 5,
} CtlExit;

/* The worse of two: 0, 3, 4, 5, 2, 1 from the best to the worst. */
CtlExit ctl_exit_worse(CtlExit a, CtlExit b);

#define CTL_ERROR ctl_error_quark()
GQuark ctl_error_quark(void);

typedef enum CtlErrorCode {
    CTL_ERROR_FAILED,           /* no other */
    CTL_ERROR_USAGE,            /* the command line is wrong: exit status 2 */
    CTL_ERROR_TIMEOUT,          /* a deadline has passed */
    CTL_ERROR_INTERRUPTED,      /* Ctrl-C */
    CTL_ERROR_LOST,             /* a connection was closed */
    CTL_ERROR_BAD_PEER,         /* what came is no QMP */
    CTL_ERROR_REFUSED,          /* QEMU answered with an error */
    CTL_ERROR_NO_COMMAND,       /* the same: it does not know the command */
} CtlErrorCode;

/* ---- Waiting ------------------------------------------------------------ */

/* A time of g_get_monotonic_time(), in microseconds. */
typedef int64_t CtlDeadline;
#define CTL_NEVER INT64_MAX

/* @ms from now; CTL_NEVER for 0. */
CtlDeadline ctl_deadline_in(unsigned int ms);

typedef bool CtlCondition(void *opaque);

/*
 * Run the main loop until @holds(@opaque), which is looked at after each round
 * of it; NULL: until the deadline.  Returns false with @err set when @deadline
 * passed before (CTL_ERROR_TIMEOUT, without words: the caller knows what he
 * waited for) or Ctrl-C was pressed (CTL_ERROR_INTERRUPTED).
 */
bool ctl_wait(CtlCondition *holds, void *opaque, CtlDeadline deadline,
              GError **err);

/* One round of the main loop, which ends at @deadline at the latest; false:
 * interrupted, with @err set. */
bool ctl_wait_once(CtlDeadline deadline, GError **err);

/* Wait until @fd can be read from. */
bool ctl_wait_readable(int fd, CtlDeadline deadline, GError **err);

/* Wait; false: interrupted. */
bool ctl_sleep(unsigned int ms, GError **err);

/* From now on SIGINT and SIGTERM interrupt what waits. */
void ctl_interrupt_init(void);

/* From now on they end the process again, as of one who does not wait. */
void ctl_interrupt_end(void);

/* As if it was pressed. */
void ctl_interrupt(void);

/* Forget that it was pressed, so that what was begun can be undone; the next
 * one counts again. */
void ctl_interrupt_clear(void);

/* ---- Words -------------------------------------------------------------- */

/* The known name nearest to @name, if it is near enough to be meant, or
 * NULL. */
const char *ctl_nearest(const char *name, const char *const *known);

/* For g_ptr_array_sort() of char *. */
int ctl_compare_words(gconstpointer a, gconstpointer b);

/*
 * What a peer said, as a person may safely see it: no control characters, cut
 * to @max_chars with "..." at the end.  Freed by the caller.
 */
char *ctl_quote(const char *text, size_t max_chars);

/* About so many: "850 us", "1.2 ms", "3.4 s"; "12 KiB", "1.2 GiB".  Freed by
 * the caller. */
char *ctl_about_time(uint64_t us);
char *ctl_about_bytes(uint64_t bytes);

/* printf() to stdout, but that nothing in it does anything to a terminal: what
 * QEMU says, or stands in a file, may hold anything. */
void ctl_say(const char *fmt, ...) G_GNUC_PRINTF(1, 2);

/* The same as text, freed by the caller; newlines stay. */
char *ctl_clean(const char *text);

/* "web1: text" where there is a name, else "text"; to stderr, in one line. */
void ctl_complain(const char *name, const char *fmt, ...) G_GNUC_PRINTF(2, 3);

/* ---- Global options ----------------------------------------------------- */

typedef struct CtlOptions {
    int timeout_ms;             /* for a wait that has a deadline */
} CtlOptions;

extern CtlOptions ctl_options;

/* Until when something may take that --timeout limits. */
CtlDeadline ctl_deadline(void);

/* ---- Commands ----------------------------------------------------------- */

/* @argv[0] is the command's name.  Complains on stderr, returns an exit
 * status. */
typedef int CtlRun(int argc, char **argv);

typedef struct CtlCommand {
    const char *name;
    const char *arguments;      /* behind the name in --help */
    const char *summary;        /* one line */
    CtlRun *run;
} CtlCommand;

extern const CtlCommand ctl_commands[];     /* ends with a name of NULL */

/* NULL: there is none. */
const CtlCommand *ctl_command_find(const char *name);

CtlRun ctl_checkpoint_main;
CtlRun ctl_complete_main;
CtlRun ctl_doctor_main;
CtlRun ctl_events_main;
CtlRun ctl_failover_main;
CtlRun ctl_get_main;
CtlRun ctl_history_main;
CtlRun ctl_host_main;
CtlRun ctl_protect_main;
CtlRun ctl_proxy_main;
CtlRun ctl_set_main;
CtlRun ctl_status_main;
CtlRun ctl_switchover_main;
CtlRun ctl_unprotect_main;
CtlRun ctl_watch_main;

/* What --sender and --receiver were; NULL where not given. */
extern char *ctl_sender_option;
extern char *ctl_receiver_option;

/* Complain of @err, free it, and say what the exit status is. */
int ctl_fail(const char *name, GError *err);

#endif
