/*
 * Figures of a pair at one moment: for watch, and in files for history
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <string.h>
#include "ctl-sample.h"
#include "ctl-verdict.h"

/* How long the question may take that a sample asks. */
#define LOOK_MS 2000

typedef enum Unit { UNIT_US, UNIT_NUMBER, UNIT_BYTES, UNIT_BYTES_PER_S } Unit;

static const struct {
    const char *name;
    const char *title;
    Unit unit;
} figures[] = {
    [CTL_FIGURE_PAUSE] = { "pause-us", "pause", UNIT_US },
    [CTL_FIGURE_DIRTY] = { "dirty-pages", "dirty pages", UNIT_NUMBER },
    [CTL_FIGURE_BYTES] = { "bytes", "a round", UNIT_BYTES },
    [CTL_FIGURE_SHIP] = { "ship-us", "on its way", UNIT_US },
    [CTL_FIGURE_RATE] = { "bytes-per-s", "bandwidth", UNIT_BYTES_PER_S },
    [CTL_FIGURE_LAG] = { "lag-us", "lag", UNIT_US },
};

G_STATIC_ASSERT(G_N_ELEMENTS(figures) == CTL_FIGURE__MAX);

const char *ctl_figure_name(CtlFigure figure)
{
    return figures[figure].name;
}

const char *ctl_figure_title(CtlFigure figure)
{
    return figures[figure].title;
}

char *ctl_figure_format(CtlFigure figure, int64_t value)
{
    g_autofree char *bytes = NULL;

    if (value < 0) {
        return g_strdup("-");
    }
    switch (figures[figure].unit) {
    case UNIT_US:
        return ctl_about_time(value);
    case UNIT_NUMBER:
        return g_strdup_printf("%" G_GINT64_FORMAT, value);
    case UNIT_BYTES:
        return ctl_about_bytes(value);
    case UNIT_BYTES_PER_S:
        break;
    }
    bytes = ctl_about_bytes(value);
    return g_strconcat(bytes, "/s", NULL);
}

/* Rounds since @before, and how many there were in a second. */
static void take_rates(CtlSample *sample, const CtlSample *before)
{
    double took_s;

    if (!before || !*sample->session ||
        strcmp(sample->session, before->session) ||
        sample->committed < before->committed ||
        sample->time_us <= before->time_us) {
        return;
    }
    took_s = (sample->time_us - before->time_us) / 1e6;
    sample->rounds_per_s = (sample->committed - before->committed) / took_s;
    if (before->sent_bytes >= 0 && sample->sent_bytes >= before->sent_bytes) {
        sample->figures[CTL_FIGURE_RATE] =
            (sample->sent_bytes - before->sent_bytes) / took_s;
    }
}

static int64_t sent_bytes(CtlPair *pair)
{
    CtlEnd *sender = ctl_pair_sender(pair);
    g_autoptr(CtlJson) migration = NULL;

    if (!sender->info || !sender->qmp) {
        return -1;
    }
    migration = ctl_qmp_call(sender->qmp, ctl_deadline_in(LOOK_MS), NULL,
                             "query-migrate", NULL);
    return ctl_json_amount(migration, "ram.transferred");
}

CtlSample ctl_sample_take(CtlPair *pair, const CtlSample *before)
{
    const CtlJson *info = ctl_pair_sender(pair)->info;
    const CtlJson *last = ctl_json_get(info, "last-round");
    int64_t lag_ms = ctl_json_amount(info, "lag-ms");
    CtlSample sample = {
        .time_us = g_get_real_time(),
        .verdict = ctl_pair_verdict(pair, NULL),
        .round = ctl_json_amount(last, "number"),
        .committed = ctl_json_amount(info, "rounds-committed"),
        .sent_bytes = sent_bytes(pair),
        .rounds_per_s = -1,
        .figures = {
            [CTL_FIGURE_PAUSE] = ctl_json_amount(last, "pause-us"),
            [CTL_FIGURE_DIRTY] = ctl_json_amount(last, "dirty-pages"),
            [CTL_FIGURE_BYTES] = ctl_json_amount(last, "bytes"),
            [CTL_FIGURE_SHIP] = ctl_json_amount(last, "ship-us"),
            [CTL_FIGURE_RATE] = -1,
            [CTL_FIGURE_LAG] = lag_ms < 0 ? -1 : lag_ms * 1000,
        },
    };

    g_strlcpy(sample.session, ctl_json_text(info, "session", ""),
              sizeof(sample.session));
    take_rates(&sample, before);
    return sample;
}

CtlJson *ctl_sample_json(const CtlSample *sample, const char *name)
{
    CtlJson *line = ctl_json_new("{s:I, s:s, s:s, s:I, s:I}",
                                 "time-us", (long long)sample->time_us,
                                 "state", ctl_verdict_word(sample->verdict),
                                 "session", sample->session,
                                 "round", (long long)sample->round,
                                 "rounds-committed",
                                 (long long)sample->committed);

    if (name) {
        ctl_json_set(line, "pair", ctl_json_new("s", name));
    }
    for (int i = 0; i < CTL_FIGURE__MAX; i++) {
        if (sample->figures[i] >= 0) {
            ctl_json_set(line, figures[i].name,
                         ctl_json_new("I", (long long)sample->figures[i]));
        }
    }
    return line;
}

bool ctl_sample_parse(const CtlJson *line, CtlSample *sample, GError **err)
{
    const char *state = ctl_json_text(line, "state", "");

    *sample = (CtlSample){
        .time_us = ctl_json_int(line, "time-us", -1),
        .verdict = CTL_VERDICT_UNKNOWN,
        .round = ctl_json_int(line, "round", -1),
        .committed = ctl_json_int(line, "rounds-committed", -1),
        .sent_bytes = -1,
        .rounds_per_s = -1,
    };
    if (sample->time_us < 0 || !*state) {
        g_set_error(err, CTL_ERROR, CTL_ERROR_FAILED, "no record of "
                    "\"curlingctl watch --record\"");
        return false;
    }
    for (CtlVerdict v = CTL_VERDICT_PROTECTED; v < CTL_VERDICT_UNKNOWN; v++) {
        if (g_str_equal(state, ctl_verdict_word(v))) {
            sample->verdict = v;
        }
    }
    g_strlcpy(sample->session, ctl_json_text(line, "session", ""),
              sizeof(sample->session));
    for (int i = 0; i < CTL_FIGURE__MAX; i++) {
        sample->figures[i] = ctl_json_int(line, figures[i].name, -1);
    }
    return true;
}
