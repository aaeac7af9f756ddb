/*
 * COLO as it is shipped: LD_PRELOAD this, and nobody sets TCP_NODELAY
 *
 * The benchmark runs one QEMU, in which COLO's sockets have it set; upstream's
 * have not.
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

int setsockopt(int fd, int level, int name, const void *value, socklen_t len)
{
    if (level == IPPROTO_TCP && name == TCP_NODELAY) {
        return 0;
    }
    return syscall(SYS_setsockopt, fd, level, name, value, len);
}
