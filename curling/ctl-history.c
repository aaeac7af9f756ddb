/*
 * curlingctl history: show what "watch --record FILE" has recorded
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "ctl-options.h"
#include "ctl-sample.h"
#include "ctl-verdict.h"

static gboolean as_csv;
static char *svg;

static const GOptionEntry entries[] = {
    { "csv", 0, 0, G_OPTION_ARG_NONE, &as_csv, "as CSV, with figures in the "
      "units that their names say", NULL },
    { "svg", 0, 0, G_OPTION_ARG_FILENAME, &svg,
      "draw a chart into FILE; needs gnuplot", "FILE" },
    { NULL }
};

/* The samples in @path, as CtlSample; NULL: @err. */
static GArray *read_samples(const char *path, GError **err)
{
    g_autofree char *text = NULL;
    g_auto(GStrv) lines = NULL;
    GArray *samples;

    if (!g_file_get_contents(path, &text, NULL, err)) {
        return NULL;
    }
    lines = g_strsplit(text, "\n", -1);
    samples = g_array_new(FALSE, FALSE, sizeof(CtlSample));
    for (guint i = 0; lines[i]; i++) {
        g_autoptr(CtlJson) line = NULL;
        GError *why = NULL;
        CtlSample sample;

        if (!*lines[i]) {
            continue;
        }
        line = ctl_json_parse(lines[i], strlen(lines[i]), &why);
        /* A line without an end is one that is being written. */
        if (!line && !lines[i + 1]) {
            g_error_free(why);
            break;
        }
        if (!line || !ctl_sample_parse(line, &sample, &why)) {
            g_set_error(err, CTL_ERROR, CTL_ERROR_FAILED, "%s, line %u: %s",
                        path, i + 1, why->message);
            g_error_free(why);
            g_array_unref(samples);
            return NULL;
        }
        g_array_append_val(samples, sample);
    }
    if (samples->len == 0) {
        g_set_error(err, CTL_ERROR, CTL_ERROR_FAILED, "%s holds no samples",
                    path);
        g_array_unref(samples);
        return NULL;
    }
    return samples;
}

static const CtlSample *at(const GArray *samples, guint i)
{
    return &g_array_index(samples, CtlSample, i);
}

static void print_csv(const GArray *samples)
{
    printf("time-us,state,round,rounds-committed");
    for (int f = 0; f < CTL_FIGURE__MAX; f++) {
        printf(",%s", ctl_figure_name(f));
    }
    printf("\n");
    for (guint i = 0; i < samples->len; i++) {
        const CtlSample *s = at(samples, i);

        printf("%" G_GINT64_FORMAT ",%s,", s->time_us,
               ctl_verdict_word(s->verdict));
        if (s->round >= 0) {
            printf("%" G_GINT64_FORMAT, s->round);
        }
        printf(",");
        if (s->committed >= 0) {
            printf("%" G_GINT64_FORMAT, s->committed);
        }
        for (int f = 0; f < CTL_FIGURE__MAX; f++) {
            printf(",");
            if (s->figures[f] >= 0) {
                printf("%" G_GINT64_FORMAT, s->figures[f]);
            }
        }
        printf("\n");
    }
}

static int compare(const void *a, const void *b)
{
    int64_t left = *(const int64_t *)a;
    int64_t right = *(const int64_t *)b;

    return (left > right) - (left < right);
}

/* A row with the @percent-th percentile of each figure. */
static void print_percentile(const GArray *samples, const char *title,
                             unsigned int percent)
{
    g_autofree int64_t *values = g_new(int64_t, samples->len);

    printf("%-34s", title);
    for (int f = 0; f < CTL_FIGURE__MAX; f++) {
        g_autofree char *text = NULL;
        size_t known = 0;

        for (guint i = 0; i < samples->len; i++) {
            if (at(samples, i)->figures[f] >= 0) {
                values[known++] = at(samples, i)->figures[f];
            }
        }
        qsort(values, known, sizeof(*values), compare);
        text = ctl_figure_format(f, known ? values[(known * percent + 99) /
                                                   100 - 1] : -1);
        printf(" %11s", text);
    }
    printf("\n");
}

static void print_table(const GArray *samples)
{
    printf("%-19s %-14s", "time", "state");
    for (int f = 0; f < CTL_FIGURE__MAX; f++) {
        printf(" %11s", ctl_figure_title(f));
    }
    printf("\n");
    for (guint i = 0; i < samples->len; i++) {
        const CtlSample *s = at(samples, i);
        g_autoptr(GDateTime) time =
            g_date_time_new_from_unix_local(s->time_us / 1000000);
        g_autofree char *text = time ? g_date_time_format(time, "%F %T") :
                                       g_strdup("?");

        printf("%-19s %-14s", text, ctl_verdict_word(s->verdict));
        for (int f = 0; f < CTL_FIGURE__MAX; f++) {
            g_autofree char *value = ctl_figure_format(f, s->figures[f]);

            printf(" %11s", value);
        }
        printf("\n");
    }
    print_percentile(samples, "half are at most", 50);
    print_percentile(samples, "99 of 100 are at most", 99);
    print_percentile(samples, "the highest", 100);
}

/* ---- The chart ---------------------------------------------------------- */

typedef struct Plot {
    CtlFigure figure;
    double factor;
    const char *label;
} Plot;

static const Plot plots[] = {
    { CTL_FIGURE_PAUSE, 1e-3, "pause, ms" },
    { CTL_FIGURE_DIRTY, 1, "dirty pages" },
    { CTL_FIGURE_RATE, 1.0 / (1 << 20), "MiB/s" },
    { CTL_FIGURE_LAG, 1e-3, "lag, ms" },
};

/* How many seconds after the first one @sample was taken */
static double seconds_of(const GArray *samples, const CtlSample *sample)
{
    return (sample->time_us - at(samples, 0)->time_us) / 1e6;
}

/* Is anything known of @figure? */
static bool is_known(const GArray *samples, CtlFigure figure)
{
    for (guint i = 0; i < samples->len; i++) {
        if (at(samples, i)->figures[figure] >= 0) {
            return true;
        }
    }
    return false;
}

static void append_plot(GString *script, const GArray *samples,
                        const Plot *plot)
{
    g_string_append_printf(script, "set ylabel '%s'\nplot '-' using 1:2 with "
                           "lines\n", plot->label);
    if (!is_known(samples, plot->figure)) {
        /* gnuplot wants to have something. */
        g_string_append(script, "0 0\n");
    }
    for (guint i = 0; i < samples->len; i++) {
        const CtlSample *s = at(samples, i);

        if (s->figures[plot->figure] < 0) {
            /* A gap, as nothing is known. */
            g_string_append(script, "\n");
            continue;
        }
        g_string_append_printf(script, "%.3f %.6f\n", seconds_of(samples, s),
                               s->figures[plot->figure] * plot->factor);
    }
    g_string_append(script, "e\n");
}

/* The chart comes from gnuplot's stdout: file names have a meaning to it. */
static char *plot_script(const GArray *samples)
{
    GString *script = g_string_new(NULL);

    g_string_append_printf(script, "set terminal svg size 900,900 background "
        "'white'\nset multiplot layout %zu,1\n"
        "set xlabel 'seconds'\nset xrange [0:%.3f]\nset yrange [0:*]\n"
        "set grid\nset key off\nset lmargin 10\n", G_N_ELEMENTS(plots),
        MAX(seconds_of(samples, at(samples, samples->len - 1)), 1));
    for (size_t p = 0; p < G_N_ELEMENTS(plots); p++) {
        append_plot(script, samples, &plots[p]);
    }
    g_string_append(script, "unset multiplot\n");
    return g_string_free(script, FALSE);
}

static bool draw_chart(const GArray *samples, const char *to, GError **err)
{
    static const char *const argv[] = { "gnuplot", NULL };
    g_autofree char *script = plot_script(samples);
    g_autofree char *chart = NULL;
    g_autofree char *said = NULL;
    g_autoptr(GSubprocess) gnuplot = NULL;
    GError *why = NULL;

    gnuplot = g_subprocess_newv(argv, G_SUBPROCESS_FLAGS_STDIN_PIPE |
                                G_SUBPROCESS_FLAGS_STDOUT_PIPE |
                                G_SUBPROCESS_FLAGS_STDERR_PIPE, &why);
    if (!gnuplot) {
        g_set_error(err, CTL_ERROR, CTL_ERROR_FAILED, "gnuplot draws the "
                    "chart, and cannot be started (%s); install gnuplot-nox, "
                    "or take --csv", why->message);
        g_error_free(why);
        return false;
    }
    if (!g_subprocess_communicate_utf8(gnuplot, script, NULL, &chart, &said,
                                       err)) {
        return false;
    }
    if (!g_subprocess_get_successful(gnuplot) || !chart ||
        !strstr(chart, "</svg>")) {
        g_autofree char *quoted = ctl_quote(said ? said : "", 300);

        g_set_error(err, CTL_ERROR, CTL_ERROR_FAILED, "gnuplot could not draw "
                    "the chart: %s", quoted);
        return false;
    }
    return g_file_set_contents(to, chart, -1, err);
}

int ctl_history_main(int argc, char **argv)
{
    g_autoptr(GArray) samples = NULL;
    GError *err = NULL;

    if (!ctl_options_parse("FILE is what \"curlingctl watch --record FILE\" "
                           "wrote.", entries, false, &argc, &argv, &err)) {
        return ctl_fail(NULL, err);
    }
    if (argc != 1) {
        ctl_complain(NULL, "history takes one argument, the file that "
                     "\"curlingctl watch --record FILE\" wrote");
        return CTL_EXIT_USAGE;
    }
    samples = read_samples(argv[0], &err);
    if (!samples || (svg && !draw_chart(samples, svg, &err))) {
        return ctl_fail(NULL, err);
    }
    if (as_csv) {
        print_csv(samples);
    } else if (!svg) {
        print_table(samples);
    }
    return CTL_EXIT_OK;
}
