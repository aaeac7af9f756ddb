/*
 * When something came over a socket: for the benchmark
 *
 *     record SOCKET OUT
 *
 * Connects to a UNIX stream socket, as soon as there is one, and notes each
 * read of it until it ends or SIGTERM comes: in OUT stands a line for each,
 * with the time in ns of CLOCK_MONOTONIC and the octets, "\n" as '/'.
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "channel.h"

#define WAIT_US 10000
#define WAITS_MAX 3000

static volatile sig_atomic_t over;

static void end(int signal)
{
    (void)signal;
    over = 1;
}

static int connect_to(const char *path)
{
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
    for (int i = 0; i < WAITS_MAX && !over; i++) {
        if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0) {
            return fd;
        }
        usleep(WAIT_US);
    }
    fprintf(stderr, "record: %s: %s\n", path, strerror(errno));
    exit(1);
}

int main(int argc, char **argv)
{
    struct sigaction action = { .sa_handler = end };
    char data[4096];
    ssize_t len;
    FILE *out;
    int fd;

    if (argc != 3) {
        fprintf(stderr, "usage: record SOCKET OUT\n");
        return 2;
    }
    /* No SA_RESTART: a read ends with it. */
    sigaction(SIGTERM, &action, NULL);
    fd = connect_to(argv[1]);
    out = fopen(argv[2], "w");
    if (!out) {
        perror(argv[2]);
        return 1;
    }
    /* Nothing is written while somebody measures. */
    setvbuf(out, NULL, _IOFBF, 16 << 20);
    while (!over && (len = read(fd, data, sizeof(data))) > 0) {
        fprintf(out, "%" PRId64 " ", curling_clock_ns());
        for (ssize_t i = 0; i < len; i++) {
            putc(data[i] == '\n' ? '/' : data[i], out);
        }
        putc('\n', out);
    }
    return fclose(out) ? 1 : 0;
}
