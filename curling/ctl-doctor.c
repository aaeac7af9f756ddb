/*
 * curlingctl doctor: what would keep a pair from being protected, or safe
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <stdio.h>
#include "ctl-derive.h"
#include "ctl-examine.h"
#include "ctl-host.h"
#include "ctl-options.h"
#include "ctl-report.h"

static gboolean print_receiver;
static gboolean allow_plaintext;
static gboolean as_json;
static char *address;

static const GOptionEntry entries[] = {
    { "address", 0, 0, G_OPTION_ARG_STRING, &address,
      "where the receiver listens, or is to listen", "URI" },
    { "allow-plaintext", 0, 0, G_OPTION_ARG_NONE, &allow_plaintext,
      "rounds that are not encrypted are no error", NULL },
    { "print-receiver", 0, 0, G_OPTION_ARG_NONE, &print_receiver,
      "print a command line for a receiver", NULL },
    { "json", 0, 0, G_OPTION_ARG_NONE, &as_json, "as JSON", NULL },
    { NULL }
};

/* The one that runs the guest, as far as the two tell. */
static const CtlEndpoint *find_guest(CtlPair *pair)
{
    CtlEnd *receiver = ctl_pair_receiver(pair);

    return g_str_equal(ctl_end_state(receiver), "active") ?
           receiver->endpoint : ctl_pair_sender(pair)->endpoint;
}

/* For the QEMU at @sender, which runs; @to (may be NULL) is where its receiver
 * is to listen. */
static int print_line(const CtlEndpoint *sender, const char *to)
{
    GError *err = NULL;
    g_autoptr(CtlJson) facts = ctl_host_facts(sender, &err);
    const CtlJson *command_line = ctl_json_get(facts, "command-line");
    g_autofree char *uri = NULL;
    g_autofree char *text = NULL;

    if (!facts) {
        g_prefix_error(&err, "%s: ", sender->text);
        return ctl_fail(NULL, err);
    }
    if (!command_line) {
        ctl_complain(NULL, "the command line of the QEMU at %s cannot be read; "
                     "give a unix: or ssh: endpoint of a QEMU that runs, as a "
                     "user who may look at its process", sender->text);
        return CTL_EXIT_ERROR;
    }
    uri = to ? ctl_address_uri(to) : g_strdup("defer");
    text = ctl_derive_receiver(command_line, uri);
    ctl_say("%s\n", text);
    ctl_complain(NULL, "ports that the sender listens at are as they were; on "
                 "the same host they need others");
    return CTL_EXIT_OK;
}

/* There need not be a receiver yet. */
static int print_line_of_sender(void)
{
    GError *err = NULL;
    g_autoptr(CtlEndpoint) sender = ctl_endpoint_parse(ctl_sender_option,
                                                       &err);

    return sender ? print_line(sender, address) : ctl_fail(NULL, err);
}

static void print_json(const GPtrArray *findings)
{
    g_autoptr(CtlJson) list = ctl_json_new("[]");
    g_autofree char *text = NULL;

    for (guint i = 0; i < findings->len; i++) {
        const CtlFinding *finding = g_ptr_array_index(findings, i);
        CtlJson *item = ctl_json_new("{s:s, s:s}", "severity",
                                     ctl_severity_word(finding->severity),
                                     "what", finding->what);

        if (finding->remedy) {
            ctl_json_set(item, "remedy", ctl_json_new("s", finding->remedy));
        }
        ctl_json_append(list, item);
    }
    text = ctl_json_dump(list);
    ctl_say("%s\n", text);
}

int ctl_doctor_main(int argc, char **argv)
{
    g_autoptr(CtlPair) pair = NULL;
    g_autoptr(GPtrArray) findings = NULL;
    CtlExamination wanted = { .measure = true };
    GError *err = NULL;

    pair = ctl_options_parse_pair(
        "Exit status 1 if protect would refuse the pair.  --print-receiver "
        "needs only\n--sender.", entries, 0, 0, &argc,
        &argv, &err);
    if (!pair && print_receiver && ctl_sender_option && !ctl_receiver_option) {
        g_clear_error(&err);
        return print_line_of_sender();
    }
    if (!pair) {
        return ctl_fail(NULL, err);
    }
    if (!ctl_pair_ask(pair, ctl_deadline(), &err)) {
        return ctl_fail(pair->name, err);
    }
    if (print_receiver) {
        return print_line(find_guest(pair), address ? address : pair->address);
    }
    ctl_pair_examination(pair, address, allow_plaintext, &wanted);
    findings = ctl_examine(pair, &wanted, &err);
    if (!findings) {
        return ctl_fail(pair->name, err);
    }
    if (as_json) {
        print_json(findings);
    } else {
        ctl_report_findings(stdout, findings, CTL_SEVERITY_NOTE);
        if (!ctl_examine_failed(findings)) {
            ctl_say("this pair can be protected\n");
        }
    }
    return ctl_examine_failed(findings) ? CTL_EXIT_ERROR : CTL_EXIT_OK;
}
