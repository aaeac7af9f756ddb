/*
 * What would keep a pair from being protected, or from being safe
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <string.h>
#include "ctl-examine.h"
#include "ctl-host.h"
#include "ctl-verdict.h"

/* Clocks that differ by more than this are worth a word. */
#define CLOCK_US 1000000

/* Slower than this (1 Gbit/s), compression pays. */
#define SLOW_BYTES_PER_S 125e6

typedef struct Examiner {
    CtlPair *pair;
    CtlEnd *sender;
    CtlEnd *receiver;
    const CtlExamination *wanted;
    GPtrArray *findings;
    uint64_t ram_bytes;         /* of the guest; 0: not known */
} Examiner;

static void finding_free(void *opaque)
{
    CtlFinding *finding = opaque;

    g_free(finding->what);
    g_free(finding->remedy);
    g_free(finding);
}

/* @what is taken. */
static void find(Examiner *e, CtlSeverity severity, char *what,
                 const char *remedy)
{
    CtlFinding *finding = g_new0(CtlFinding, 1);

    finding->severity = severity;
    finding->what = what;
    finding->remedy = g_strdup(remedy);
    g_ptr_array_add(e->findings, finding);
}

const char *ctl_severity_word(CtlSeverity severity)
{
    switch (severity) {
    case CTL_SEVERITY_ERROR:
        return "error";
    case CTL_SEVERITY_WARNING:
        return "warning";
    case CTL_SEVERITY_NOTE:
        break;
    }
    return "note";
}

bool ctl_examine_failed(const GPtrArray *findings)
{
    for (guint i = 0; i < findings->len; i++) {
        const CtlFinding *finding = g_ptr_array_index(findings, i);

        if (finding->severity == CTL_SEVERITY_ERROR) {
            return true;
        }
    }
    return false;
}

/* ---- Addresses ---------------------------------------------------------- */

bool ctl_is_deferred(const CtlEnd *receiver)
{
    return g_str_equal(ctl_end_role(receiver), "none") &&
           g_str_equal(ctl_json_text(receiver->status, "status", ""),
                       "inmigrate");
}

char *ctl_address_host(const char *uri)
{
    const char *host = uri + strlen("curling:tcp:");
    const char *end;

    if (!g_str_has_prefix(uri, "curling:tcp:")) {
        return NULL;
    }
    if (*host == '[') {
        end = strchr(host, ']');
        return end ? g_strndup(host + 1, end - host - 1) : NULL;
    }
    end = strrchr(host, ':');
    return end ? g_strndup(host, end - host) : NULL;
}

static bool is_wildcard(const char *host)
{
    g_autoptr(GInetAddress) address = NULL;

    if (!*host) {
        return true;
    }
    address = g_inet_address_new_from_string(host);
    return address && g_inet_address_get_is_any(address);
}

char *ctl_address_uri(const char *text)
{
    return g_str_has_prefix(text, "curling:") ? g_strdup(text) :
           g_strconcat("curling:", text, NULL);
}

char *ctl_address_of(CtlPair *pair, const char *given, GError **err)
{
    const CtlEnd *receiver = ctl_pair_receiver(pair);
    const char *bound = ctl_json_text(receiver->info, "address", NULL);
    g_autofree char *host = NULL;
    g_autofree char *uri = NULL;

    if (!given && !bound) {
        g_set_error(err, CTL_ERROR, CTL_ERROR_FAILED, "%s waits to be told "
                    "where to listen (-incoming defer); give --address "
                    "curling:tcp:HOST:PORT", receiver->endpoint->text);
        return NULL;
    }
    uri = ctl_address_uri(given ? given : bound);
    host = ctl_address_host(uri);
    if (!host || !is_wildcard(host)) {
        return g_steal_pointer(&uri);
    }
    if (given) {
        g_set_error(err, CTL_ERROR, CTL_ERROR_FAILED, "%s is no address that "
                    "a sender can go to; name the receiver's host or its "
                    "address", given);
    } else {
        g_set_error(err, CTL_ERROR, CTL_ERROR_FAILED, "%s listens at all of "
                    "its addresses (%s); say by which one the sender reaches "
                    "it, with --address curling:tcp:HOST:PORT",
                    receiver->endpoint->text, bound);
    }
    return NULL;
}

/* It listens already, at a port that is not the given one. */
static void examine_port(Examiner *e, const char *uri)
{
    const char *bound = ctl_json_text(e->receiver->info, "address", NULL);
    const char *port = strrchr(uri, ':');

    if (bound && g_str_has_prefix(uri, "curling:tcp:") &&
        strstr(bound, "tcp:") && !g_str_has_suffix(bound, port)) {
        find(e, CTL_SEVERITY_WARNING, g_strdup_printf(
             "the receiver listens at %s, and is to be reached at %s", bound,
             uri), "fine if something in between forwards that; else leave "
             "--address out");
    }
}

static void examine_address(Examiner *e)
{
    g_autoptr(GError) why = NULL;
    g_autofree char *uri = ctl_address_of(e->pair, e->wanted->address, &why);
    g_autofree char *host = uri ? ctl_address_host(uri) : NULL;
    g_autoptr(CtlJson) parameters = NULL;

    if (!uri) {
        find(e, CTL_SEVERITY_ERROR, g_strdup(why->message), NULL);
        return;
    }
    examine_port(e, uri);
    if (!host || ctl_host_is_loopback(host)) {
        if (!ctl_endpoint_share_host(e->sender->endpoint,
                                     e->receiver->endpoint)) {
            find(e, CTL_SEVERITY_ERROR, g_strdup_printf(
                 "the receiver is to be reached at %s, which is each host's "
                 "own", host ? host : uri), "have it listen at an address of "
                 "the network, and give that as --address");
        }
        return;
    }
    parameters = ctl_qmp_call(e->sender->qmp, ctl_deadline(), &why,
                              "query-migrate-parameters", NULL);
    if (*ctl_json_text(parameters, "tls-creds", "")) {
        return;
    }
    find(e, e->wanted->allow_plaintext ? CTL_SEVERITY_WARNING :
         CTL_SEVERITY_ERROR, g_strdup_printf(
         "rounds to %s are not encrypted: who is on the path can read and "
         "change the guest's memory", host),
         "set tls-creds on both sides (docs/curling.txt, 9.6), or accept it "
         "with --allow-plaintext");
}

/* ---- The two QEMUs ------------------------------------------------------ */

static void examine_presence(Examiner *e, CtlEnd *end)
{
    g_autoptr(GError) why = NULL;

    if (ctl_end_need(end, &why)) {
        return;
    }
    if (g_error_matches(why, CTL_ERROR, CTL_ERROR_NO_COMMAND)) {
        find(e, CTL_SEVERITY_ERROR, g_strdup_printf(
             "%s: this QEMU has no Curling", end->endpoint->text),
             end == e->sender ?
             "move its guest into one that has it: start that with the same "
             "machine and -incoming tcp:HOST:PORT, say \"migrate "
             "tcp:HOST:PORT\" to the old one, and protect the new one" :
             "start the receiver in a QEMU that has it");
    } else {
        find(e, CTL_SEVERITY_ERROR, g_strdup(why->message),
             "start it, or correct the endpoint");
    }
}

static void examine_sender_role(Examiner *e)
{
    const char *role = ctl_end_role(e->sender);
    const char *state = ctl_end_state(e->sender);
    const char *run = ctl_json_text(e->sender->status, "status", "");
    g_autoptr(GError) why = NULL;

    if (g_str_equal(run, "inmigrate") || (g_str_equal(role, "receiver") &&
                                          !g_str_equal(state, "active"))) {
        find(e, CTL_SEVERITY_ERROR, g_strdup_printf(
             "%s runs no guest: it waits for one itself (-incoming)",
             e->sender->endpoint->text), "are sender and receiver the right "
             "way round?");
    } else if (g_str_equal(state, "fenced")) {
        find(e, CTL_SEVERITY_ERROR, g_strdup_printf(
             "the guest of %s is fenced: the receiver runs it, or may run it",
             e->sender->endpoint->text), "protect the one that runs it; end "
             "this QEMU and start it anew as a receiver");
    } else if (ctl_pair_is_mismatched(e->pair, &why)) {
        bool lost = ctl_end_has_lost_receiver(e->sender);

        find(e, lost ? CTL_SEVERITY_WARNING : CTL_SEVERITY_ERROR,
             g_strdup(why->message), lost ? "that one is lost, but may live, "
             "hold a round and start the guest: make sure that it is dead, and "
             "protect with --replace" : "name the other receiver, or end that "
             "session first: curlingctl unprotect");
    } else if (g_str_equal(run, "internal-error") ||
               g_str_equal(run, "guest-panicked") ||
               g_str_equal(run, "shutdown")) {
        find(e, CTL_SEVERITY_WARNING, g_strdup_printf(
             "the guest does not run: %s", run), "look at the guest first");
    }
}

static void examine_receiver_role(Examiner *e)
{
    const char *role = ctl_end_role(e->receiver);
    const char *state = ctl_end_state(e->receiver);
    const char *where = e->receiver->endpoint->text;

    if (ctl_is_deferred(e->receiver) || g_str_equal(state, "listening")) {
        return;
    }
    if (ctl_pair_has_session(e->pair) && !g_str_equal(state, "active")) {
        find(e, CTL_SEVERITY_NOTE, g_strdup_printf(
             "the two are in a session: the sender is %s, the receiver %s",
             ctl_end_state(e->sender), state), NULL);
        return;
    }
    if (g_str_equal(state, "suspect") || g_str_equal(state, "failed")) {
        find(e, CTL_SEVERITY_ERROR, g_strdup_printf(
             "%s holds a round of another session (%s)", where, state),
             "if that guest needs no takeover any more, discard the round "
             "with curling-reset in its monitor, or start the receiver anew");
    } else if (g_str_equal(role, "receiver") &&
               !g_str_equal(state, "active")) {
        find(e, CTL_SEVERITY_ERROR, g_strdup_printf(
             "%s serves another sender (%s)", where, state),
             "start another receiver");
    } else {
        find(e, CTL_SEVERITY_ERROR, g_strdup_printf(
             "%s runs a guest of its own", where),
             "a receiver is a QEMU with the same machine that was started "
             "with -incoming curling:tcp:HOST:PORT or -incoming defer");
    }
}

/* What @command says at @end; NULL where it does not. */
static CtlJson *ask(const CtlEnd *end, const char *command)
{
    return ctl_qmp_call(end->qmp, ctl_deadline(), NULL, command, NULL);
}

static CtlJson *ask_property(const CtlEnd *end, const char *path,
                             const char *property)
{
    return ctl_qmp_call(end->qmp, ctl_deadline(), NULL, "qom-get",
                        "{s:s, s:s}", "path", path, "property", property);
}

/* Both are taken.  A side that does not tell is not compared. */
static void compare(Examiner *e, CtlSeverity severity, const char *what,
                    CtlJson *left, CtlJson *right, const char *remedy)
{
    if (left && right && !ctl_json_equal(left, right)) {
        g_autofree char *one = ctl_json_plain(left);
        g_autofree char *other = ctl_json_plain(right);
        g_autofree char *both = g_strdup_printf("%s at the sender, %s at the "
                                                "receiver", one, other);

        find(e, severity, g_strdup_printf("%s: %s", what, strlen(both) < 200 ?
             both : "not the same on both sides"), remedy);
    }
    ctl_json_free(left);
    ctl_json_free(right);
}

static CtlJson *version_of(const CtlEnd *end)
{
    g_autoptr(CtlJson) version = ask(end, "query-version");
    g_autofree char *text = NULL;

    if (!version) {
        return NULL;
    }
    text = g_strdup_printf("%d.%d.%d%s",
                           (int)ctl_json_int(version, "qemu.major", 0),
                           (int)ctl_json_int(version, "qemu.minor", 0),
                           (int)ctl_json_int(version, "qemu.micro", 0),
                           ctl_json_text(version, "package", ""));
    return ctl_json_new("s", text);
}

static CtlJson *ram_of(const CtlEnd *end, uint64_t *bytes)
{
    g_autoptr(CtlJson) sizes = ask(end, "query-memory-size-summary");
    g_autofree char *text = NULL;

    if (!sizes) {
        return NULL;
    }
    *bytes = ctl_json_int(sizes, "base-memory", 0) +
             ctl_json_int(sizes, "plugged-memory", 0);
    text = ctl_about_bytes(*bytes);
    return ctl_json_new("{s:s, s:I}", "about", text, "bytes",
                        (long long)*bytes);
}

static void compare_ram(Examiner *e)
{
    uint64_t other = 0;
    g_autoptr(CtlJson) left = ram_of(e->sender, &e->ram_bytes);
    g_autoptr(CtlJson) right = ram_of(e->receiver, &other);

    if (left && right && e->ram_bytes != other) {
        find(e, CTL_SEVERITY_ERROR, g_strdup_printf(
             "RAM: %s at the sender, %s at the receiver",
             ctl_json_text(left, "about", ""),
             ctl_json_text(right, "about", "")),
             "start the receiver with the sender's -m");
    }
}

static void compare_cpus(Examiner *e)
{
    g_autoptr(CtlJson) left = ask(e->sender, "query-cpus-fast");
    g_autoptr(CtlJson) right = ask(e->receiver, "query-cpus-fast");
    const char *one = ctl_json_text(left, "0.qom-path", NULL);
    const char *other = ctl_json_text(right, "0.qom-path", NULL);

    if (!one || !other) {
        return;
    }
    compare(e, CTL_SEVERITY_ERROR, "vCPUs",
            ctl_json_new("I", (long long)ctl_json_count(left, NULL)),
            ctl_json_new("I", (long long)ctl_json_count(right, NULL)),
            "start the receiver with the sender's -smp");
    compare(e, CTL_SEVERITY_ERROR, "CPU model",
            ask_property(e->sender, one, "type"),
            ask_property(e->receiver, other, "type"),
            "start the receiver with the sender's -cpu");
    compare(e, CTL_SEVERITY_ERROR, "CPU features",
            ask_property(e->sender, one, "feature-words"),
            ask_property(e->receiver, other, "feature-words"),
            "use a -cpu that both hosts have in full, not host or max");
}

static void compare_machines(Examiner *e)
{
    g_autoptr(CtlJson) left = ask(e->sender, "query-kvm");
    g_autoptr(CtlJson) right = ask(e->receiver, "query-kvm");

    compare(e, CTL_SEVERITY_WARNING, "QEMU's version", version_of(e->sender),
            version_of(e->receiver), "use the same one; else use a machine "
            "type with a version, such as pc-q35-10.0");
    compare(e, CTL_SEVERITY_ERROR, "machine type",
            ask_property(e->sender, "/machine", "type"),
            ask_property(e->receiver, "/machine", "type"),
            "start the receiver with the sender's -machine");
    if (left && right &&
        ctl_json_bool(left, "enabled") != ctl_json_bool(right, "enabled")) {
        find(e, CTL_SEVERITY_ERROR, g_strdup_printf(
             "only the %s uses KVM", ctl_json_bool(left, "enabled") ?
             "sender" : "receiver"), "start both with the same -accel");
    }
    compare_ram(e);
    compare_cpus(e);
}

/* The devices that were added to @end's machine: their types, sorted. */
static char **devices_of(const CtlEnd *end)
{
    static const char *const folders[] = {
        "/machine/peripheral", "/machine/peripheral-anon"
    };
    g_autoptr(GPtrArray) types = g_ptr_array_new();

    for (size_t f = 0; f < G_N_ELEMENTS(folders); f++) {
        g_autoptr(CtlJson) list =
            ctl_qmp_call(end->qmp, ctl_deadline(), NULL, "qom-list", "{s:s}",
                         "path", folders[f]);

        for (size_t i = 0; i < ctl_json_count(list, NULL); i++) {
            const char *type = ctl_json_text(ctl_json_at(list, i), "type", "");

            if (g_str_has_prefix(type, "child<")) {
                g_ptr_array_add(types, ctl_quote(type, 100));
            }
        }
    }
    g_ptr_array_sort(types, ctl_compare_words);
    g_ptr_array_add(types, NULL);
    return (char **)g_ptr_array_free(g_steal_pointer(&types), FALSE);
}

/* "child<virtio-rng-pci>": without the brackets. */
static void find_device(Examiner *e, const char *type, const char *side)
{
    find(e, CTL_SEVERITY_ERROR, g_strdup_printf(
         "only the %s has a device %.*s", side,
         (int)(strlen(type) - strlen("child<>")), type + strlen("child<")),
         "start both with the same devices");
}

/* Two sorted lists, side by side */
static void compare_devices(Examiner *e)
{
    g_auto(GStrv) left = devices_of(e->sender);
    g_auto(GStrv) right = devices_of(e->receiver);
    char **a = left;
    char **b = right;

    while (*a || *b) {
        int order = !*a ? 1 : !*b ? -1 : strcmp(*a, *b);

        if (order < 0) {
            find_device(e, *a, "sender");
        } else if (order > 0) {
            find_device(e, *b, "receiver");
        }
        a += order <= 0;
        b += order >= 0;
    }
}

/* ---- What the guest has ------------------------------------------------- */

/* Devices that cannot migrate, capabilities that do not fit */
static void examine_obstacle(Examiner *e)
{
    const char *obstacle = ctl_json_text(e->sender->info, "obstacle", NULL);

    if (obstacle) {
        find(e, CTL_SEVERITY_ERROR, g_strdup_printf(
             "the guest cannot be migrated: %s", obstacle),
             "take that device out of the guest, or turn off what does not "
             "fit");
    }
}

static void examine_disk(Examiner *e, const CtlJson *disk)
{
    const char *name = ctl_json_text(disk, "device", "");
    g_autofree char *quoted = NULL;

    if (!ctl_json_get(disk, "inserted") ||
        ctl_json_bool(disk, "inserted.ro")) {
        return;
    }
    quoted = ctl_quote(*name ? name : ctl_json_text(disk, "qdev", "?"), 100);
    find(e, e->wanted->disks_accepted ? CTL_SEVERITY_WARNING :
         CTL_SEVERITY_ERROR, g_strdup_printf(
         "disk %s is writable: after a takeover it would be ahead of memory, "
         "which ruins file systems", quoted),
         "make it read-only, or accept that with --set disks=unsafe-ahead");
}

static void examine_disks(Examiner *e)
{
    g_autoptr(CtlJson) disks = ask(e->sender, "query-block");

    for (size_t i = 0; i < ctl_json_count(disks, NULL); i++) {
        examine_disk(e, ctl_json_at(disks, i));
    }
}

/* Of virtio devices QEMU tells, in a command that it calls unstable. */
static void examine_vhost(Examiner *e)
{
    g_autoptr(CtlJson) devices = ask(e->sender, "x-query-virtio");

    for (size_t i = 0; i < ctl_json_count(devices, NULL); i++) {
        const CtlJson *device = ctl_json_at(devices, i);
        const char *path = ctl_json_text(device, "path", "");
        g_autoptr(CtlJson) status =
            ctl_qmp_call(e->sender->qmp, ctl_deadline(), NULL,
                         "x-query-virtio-status", "{s:s}", "path", path);

        if (ctl_json_get(status, "vhost-dev")) {
            g_autofree char *name = ctl_quote(ctl_json_text(device, "name",
                                                            "?"), 60);

            find(e, CTL_SEVERITY_WARNING, g_strdup_printf(
                 "%s is served by vhost: each pause of the guest waits for "
                 "that back end to stop", name),
                 "where pauses are too long, use the device without vhost");
        }
    }
}

static void examine_fencing(Examiner *e)
{
    if (g_str_equal(ctl_json_text(e->receiver->info, "on-silence", ""),
                    "takeover") &&
        ctl_json_int(e->sender->info, "fence-after-ms", 0) == 0) {
        find(e, CTL_SEVERITY_WARNING, g_strdup(
             "on a cut network both guests run: on-silence is takeover, and "
             "no lease stops the sender's"), "set fence-after, or leave "
             "on-silence at wait");
    }
}

/* ---- The hosts ---------------------------------------------------------- */

static void examine_memory(Examiner *e, const CtlJson *facts)
{
    uint64_t available = ctl_json_int(facts, "memory-available", 0);
    uint64_t round = ctl_json_int(e->receiver->info, "max-round-bytes", 0);
    uint64_t needed = e->ram_bytes +
                      (round ? round : e->ram_bytes + e->ram_bytes / 4);
    g_autofree char *has = ctl_about_bytes(available);
    g_autofree char *needs = ctl_about_bytes(needed);

    if (!available || !e->ram_bytes) {
        return;
    }
    if (available < needed) {
        find(e, CTL_SEVERITY_WARNING, g_strdup_printf(
             "the receiver's host has %s free, and may need %s for the guest "
             "and its rounds", has, needs),
             "free some, or limit rounds with max-round at the receiver");
    } else {
        find(e, CTL_SEVERITY_NOTE, g_strdup_printf(
             "the receiver's host has %s free; %s are needed at most", has,
             needs), NULL);
    }
}

static void compare_clocks(Examiner *e, const CtlJson *left,
                           const CtlJson *right)
{
    int64_t apart_us = ctl_json_int(left, "clock-us", 0) -
                       ctl_json_int(right, "clock-us", 0);
    g_autofree char *text = ctl_about_time(ABS(apart_us));

    if (left && right && ABS(apart_us) > CLOCK_US) {
        find(e, CTL_SEVERITY_WARNING, g_strdup_printf(
             "the clocks of the two hosts are %s apart: a guest that reads "
             "its host's clock sees that at a takeover", text),
             "run an NTP client on both");
    }
}

static void examine_link(Examiner *e)
{
    g_autofree char *uri = ctl_address_of(e->pair, e->wanted->address, NULL);
    g_autofree char *host = uri ? ctl_address_host(uri) : NULL;
    g_autoptr(GError) why = NULL;
    g_autofree char *text = NULL;
    double rate;

    if (!host || ctl_host_is_loopback(host)) {
        return;
    }
    rate = ctl_host_measure(e->sender->endpoint, e->receiver->endpoint, host,
                            &why);
    if (rate <= 0) {
        find(e, CTL_SEVERITY_NOTE, g_strdup_printf(
             "the link was not measured: %s", why ? why->message :
             "nothing came through; does a firewall stand in between?"), NULL);
        return;
    }
    text = g_strdup_printf("the link takes %.0f Mbit/s; all of RAM once is "
                           "%.1f s", rate * 8 / 1e6, e->ram_bytes / rate);
    if (rate < SLOW_BYTES_PER_S && g_str_equal(
            ctl_json_text(e->sender->info, "compress", ""), "none")) {
        find(e, CTL_SEVERITY_WARNING, g_steal_pointer(&text),
             "set compress auto");
    } else {
        find(e, CTL_SEVERITY_NOTE, g_steal_pointer(&text), NULL);
    }
}

static CtlJson *facts_of(Examiner *e, CtlEnd *end)
{
    g_autoptr(GError) why = NULL;
    CtlJson *facts = ctl_host_facts(end->endpoint, &why);

    if (!facts) {
        find(e, CTL_SEVERITY_NOTE, g_strdup_printf(
             "%s: %s", end->endpoint->text, why->message), NULL);
    }
    return facts;
}

static void examine_hosts(Examiner *e)
{
    g_autoptr(CtlJson) left = facts_of(e, e->sender);
    g_autoptr(CtlJson) right = facts_of(e, e->receiver);

    examine_memory(e, right);
    compare_clocks(e, left, right);
    if (ctl_endpoint_share_host(e->sender->endpoint, e->receiver->endpoint)) {
        find(e, CTL_SEVERITY_WARNING, g_strdup(
             "both QEMUs are on one host: when that dies, both die"),
             "fine for a trial; else put the receiver on another host");
    } else if (e->wanted->measure) {
        examine_link(e);
    }
}

/* ------------------------------------------------------------------------- */

GPtrArray *ctl_examine(CtlPair *pair, const CtlExamination *wanted,
                       GError **err)
{
    Examiner e = {
        .pair = pair,
        .sender = ctl_pair_sender(pair),
        .receiver = ctl_pair_receiver(pair),
        .wanted = wanted,
        .findings = g_ptr_array_new_with_free_func(finding_free),
    };

    examine_presence(&e, e.sender);
    examine_presence(&e, e.receiver);
    if (e.findings->len == 0) {
        examine_sender_role(&e);
        examine_receiver_role(&e);
        compare_machines(&e);
        compare_devices(&e);
        examine_address(&e);
        examine_obstacle(&e);
        examine_disks(&e);
        examine_vhost(&e);
        examine_fencing(&e);
        examine_hosts(&e);
        /* Questions that failed in between left no word, nor did Ctrl-C. */
        if (!ctl_sleep(0, err) || ctl_qmp_has_failed(e.sender->qmp, err) ||
            ctl_qmp_has_failed(e.receiver->qmp, err)) {
            g_ptr_array_unref(e.findings);
            return NULL;
        }
    }
    return e.findings;
}
