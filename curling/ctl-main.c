/*
 * curlingctl: protect a QEMU guest, watch it, fail it over
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <fcntl.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "ctl.h"
#include "ctl-options.h"

#ifndef CURLING_VERSION
#define CURLING_VERSION "unknown"
#endif

static void print_help(void)
{
    printf("Usage: curlingctl [--timeout TIME] COMMAND ...\n"
           "\n"
           "Fault tolerance for QEMU guests: a guest runs in one QEMU, the "
           "sender; a\n"
           "receiver takes its state, round after round, and starts it when "
           "the sender dies.\n"
           "\n"
           "Commands:\n");
    for (const CtlCommand *c = ctl_commands; c->name; c++) {
        if (c->summary) {
            g_autofree char *usage = g_strdup_printf("%s %s", c->name,
                                                     c->arguments);

            printf("  %-24s %s\n", usage, c->summary);
        }
    }
    printf("\n"
           "A PAIR is a name in pairs.conf(5), or --sender EP --receiver EP, "
           "where EP is\n"
           "unix:/path/qmp.sock, tcp:host:port or "
           "ssh://[user@]host[:port]/path/qmp.sock:\n"
           "QEMU's QMP socket.  \"curlingctl COMMAND --help\" tells more.\n"
           "\n"
           "  --timeout TIME   how long something may take, such as 5s (30s; "
           "0: for ever)\n"
           "  --version        print the version\n"
           "  --help           print this\n"
           "\n"
           "  curlingctl protect --sender unix:/run/a.qmp --receiver "
           "unix:/run/b.qmp\n");
}

static int fail_command(const char *name)
{
    const char *names[32] = { NULL };
    size_t number = 0;
    const char *nearest;
    g_autofree char *quoted = ctl_quote(name, 40);

    for (const CtlCommand *c = ctl_commands; c->name; c++) {
        if (c->summary) {
            names[number++] = c->name;
        }
    }
    nearest = ctl_nearest(name, names);
    if (nearest) {
        ctl_complain(NULL, "unknown command %s; did you mean %s?", quoted,
                     nearest);
    } else {
        ctl_complain(NULL, "unknown command %s; see curlingctl --help",
                     quoted);
    }
    return CTL_EXIT_USAGE;
}

/* One that is closed would be taken by the next file or socket. */
static void fill_descriptors(void)
{
    int fd;

    do {
        fd = open("/dev/null", O_RDWR);
    } while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd > STDERR_FILENO) {
        close(fd);
    }
}

/* What cannot be written, as to a full disk, was not said. */
static int end(int status)
{
    if (fflush(stdout) != 0 || ferror(stdout)) {
        ctl_complain(NULL, "stdout cannot be written to");
        return CTL_EXIT_ERROR;
    }
    return status;
}

int main(int argc, char **argv)
{
    const CtlCommand *command;
    GError *err = NULL;

    fill_descriptors();
    setlocale(LC_ALL, "");
    /* Numbers have a point, for gnuplot and scripts too. */
    setlocale(LC_NUMERIC, "C");
    /* The first number that glib converts sets up a locale for that, and a
     * thread that waits for another one to do so takes the errno of its wait
     * for that of the conversion (glib 2.74).  Before there are threads: */
    g_ascii_strtoull("0", NULL, 10);
    g_set_prgname("curlingctl");
    signal(SIGPIPE, SIG_IGN);
    if (!ctl_options_take_global(&argc, &argv, &err)) {
        return ctl_fail(NULL, err);
    }
    if (argc == 0 || g_str_equal(argv[0], "--help") ||
        g_str_equal(argv[0], "-h")) {
        print_help();
        return end(argc == 0 ? CTL_EXIT_USAGE : CTL_EXIT_OK);
    }
    if (g_str_equal(argv[0], "--version")) {
        printf("curlingctl " CURLING_VERSION "\n");
        return end(CTL_EXIT_OK);
    }
    command = ctl_command_find(argv[0]);
    if (!command) {
        return fail_command(argv[0]);
    }
    ctl_interrupt_init();
    return end(command->run(argc, argv));
}
