/*
 * What several commands show a person: findings, a bar of progress
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include "ctl-report.h"

#define BAR_CHARS 30            /* where there is room */

void ctl_pair_examination(CtlPair *pair, const char *address,
                          bool allow_plaintext, CtlExamination *wanted)
{
    *wanted = (CtlExamination){
        .address = address ? address : pair->swapped ? pair->back_address :
                   pair->address,
        .allow_plaintext = allow_plaintext || pair->allow_plaintext,
        .disks_accepted = g_str_equal(ctl_json_text(
            ctl_pair_sender(pair)->info, "disks", ""), "unsafe-ahead"),
        .measure = wanted->measure,
    };
    /* What protect would set counts too. */
    for (guint i = 0; i + 1 < pair->settings->len; i += 2) {
        if (g_str_equal(g_ptr_array_index(pair->settings, i), "disks")) {
            wanted->disks_accepted =
                g_str_equal(g_ptr_array_index(pair->settings, i + 1),
                            "unsafe-ahead");
        }
    }
}

void ctl_report_findings(FILE *to, const GPtrArray *findings,
                         CtlSeverity least)
{
    for (guint i = 0; i < findings->len; i++) {
        const CtlFinding *finding = g_ptr_array_index(findings, i);

        if (finding->severity > least) {
            continue;
        }
        fprintf(to, "%s: %s\n", ctl_severity_word(finding->severity),
                finding->what);
        if (finding->remedy) {
            fprintf(to, "    %s\n", finding->remedy);
        }
    }
}

static bool has_bar;
static uint64_t last_tenth;

/* One line, which must not go on in the next one. */
static void draw_bar(const char *title, double part, const char *text)
{
    struct winsize size = { .ws_col = 80 };
    char bar[BAR_CHARS + 1];
    size_t other = strlen(title) + strlen(text) + strlen(" [] ");
    size_t width;

    ioctl(STDERR_FILENO, TIOCGWINSZ, &size);
    width = size.ws_col > other ? MIN(size.ws_col - other - 1, BAR_CHARS) : 0;
    memset(bar, ' ', width);
    memset(bar, '=', width * part);
    bar[width] = '\0';
    fprintf(stderr, "\r\033[K%s [%s] %s", title, bar, text);
    fflush(stderr);
    has_bar = true;
}

void ctl_report_progress(uint64_t done, uint64_t total, int64_t took_us)
{
    double rate = took_us > 0 ? done * 1e6 / took_us : 0;
    g_autofree char *of = ctl_about_bytes(total);
    g_autofree char *per_second = ctl_about_bytes(rate);
    g_autofree char *left = ctl_about_time(rate > 0 ?
                                           (total - done) * 1e6 / rate : 0);
    g_autofree char *text = NULL;
    unsigned int percent = total ? done * 100 / total : 0;

    if (!isatty(STDERR_FILENO)) {
        if (percent / 10 > last_tenth) {
            last_tenth = percent / 10;
            fprintf(stderr, "first round: %u%% of %s\n", percent, of);
        }
        return;
    }
    text = g_strdup_printf("%3u%% of %s, %s/s, %s left", percent, of,
                           per_second, rate > 0 ? left : "?");
    draw_bar("first round", total ? (double)done / total : 0, text);
}

void ctl_report_progress_end(void)
{
    if (has_bar) {
        fprintf(stderr, "\r\033[K");
        fflush(stderr);
        has_bar = false;
    }
}
