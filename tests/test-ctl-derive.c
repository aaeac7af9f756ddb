/*
 * A receiver's command line, derived from that of its sender
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include "ctl-derive.h"
#include "ctl-examine.h"

static void assert_derived(const char *const *sender, const char *expected)
{
    g_autoptr(CtlJson) list = ctl_json_new("[]");
    g_autofree char *line = NULL;

    for (; *sender; sender++) {
        ctl_json_append(list, ctl_json_new("s", *sender));
    }
    line = ctl_derive_receiver(list, "defer");
    assert_string_equal(line, expected);
}

#define DERIVED(expected, ...) \
    assert_derived((const char *const[]){ "qemu", __VA_ARGS__, NULL }, \
                   "qemu" expected " \\\n    -incoming defer")

/* What makes the machine stays as it is. */
static void test_machine_stays(void **state)
{
    (void)state;
    DERIVED(" \\\n    -m 256 \\\n    --cpu max,+x", "-m", "256", "--cpu",
            "max,+x");
    DERIVED(" \\\n    -drive file=/a.img,if=none", "-drive",
            "file=/a.img,if=none");
    DERIVED(" \\\n    -append 'a b $c'", "-append", "a b $c");
    DERIVED(" \\\n    -append ''", "-append", "");
    DERIVED(" \\\n    -enable-kvm \\\n    -smp 2", "-enable-kvm", "-smp", "2");
}

/* Two processes cannot share these. */
static void test_paths_are_renamed(void **state)
{
    (void)state;
    DERIVED(" \\\n    -qmp unix:/a.receiver,server=on,wait=off", "-qmp",
            "unix:/a,server=on,wait=off");
    DERIVED(" \\\n    -qmp unix:/a,,b.receiver,server=on", "-qmp",
            "unix:/a,,b,server=on");
    DERIVED(" \\\n    -serial file:/a.log.receiver", "-serial", "file:/a.log");
    DERIVED(" \\\n    -chardev socket,id=c,path=/a.receiver,server=on",
            "-chardev", "socket,id=c,path=/a,server=on");
    DERIVED(" \\\n    -pidfile /a.pid.receiver \\\n    -D /a.log.receiver",
            "-pidfile", "/a.pid", "-D", "/a.log");
    DERIVED(" \\\n    -vnc 127.0.0.1:0,to=99", "-vnc", "127.0.0.1:0");
    DERIVED(" \\\n    -vnc unix:/a.receiver", "-vnc", "unix:/a");
    DERIVED(" \\\n    -vnc none", "-vnc", "none");
    DERIVED(" \\\n    -chardev socket,id=t,path=/swtpm", "-chardev",
            "socket,id=t,path=/swtpm");
    DERIVED(" \\\n    -serial null \\\n    -monitor stdio", "-serial", "null",
            "-monitor", "stdio");
}

/* A sender that was a receiver, and what would keep it from waiting. */
static void test_left_out(void **state)
{
    (void)state;
    DERIVED(" \\\n    -m 1G", "-incoming", "curling:tcp:0:1", "-m", "1G");
    DERIVED(" \\\n    -m 1G", "-S", "-m", "1G", "--incoming", "defer");
    DERIVED(" \\\n    -m 1G", "-m", "1G", "-loadvm", "snap");
    DERIVED("", "-incoming");
}

static void test_address_host(void **state)
{
    static const struct { const char *uri, *host; } table[] = {
        { "curling:tcp:host:1", "host" },
        { "curling:tcp:[::1]:1", "::1" },
        { "curling:tcp:192.0.2.1:4444", "192.0.2.1" },
        { "curling:tcp::4444", "" },
        { "curling:unix:/a", NULL },
        { "curling:tcp:", NULL },
        { "curling:tcp:[::1", NULL },
    };

    (void)state;
    for (size_t i = 0; i < G_N_ELEMENTS(table); i++) {
        g_autofree char *host = ctl_address_host(table[i].uri);

        assert_int_equal(g_strcmp0(host, table[i].host), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_machine_stays),
        cmocka_unit_test(test_paths_are_renamed),
        cmocka_unit_test(test_left_out),
        cmocka_unit_test(test_address_host),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
