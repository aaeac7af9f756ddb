/*
 * The terminal of "watch": pages of text, graphs, keys
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <langinfo.h>
#include <ncurses.h>
#include <term.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include "ctl-screen.h"

/* A graph begins at this column. */
#define GRAPH_COLUMN 28

static SCREEN *screen;
static int row;
static bool coloured;
static bool unicode;
static guint key_source;
static guint size_source;
static CtlScreenDraw *on_draw;
static CtlScreenKey *on_key;
static void *on_opaque;

static gboolean read_keys(gint fd, GIOCondition condition, gpointer opaque)
{
    int key;

    (void)fd;
    (void)opaque;
    while ((key = getch()) != ERR) {
        on_key(key, on_opaque);
    }
    if (condition & (G_IO_HUP | G_IO_ERR)) {
        /* The terminal is gone. */
        ctl_interrupt();
        key_source = 0;
        return G_SOURCE_REMOVE;
    }
    return G_SOURCE_CONTINUE;
}

static gboolean take_size(gpointer opaque)
{
    struct winsize size;

    (void)opaque;
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row &&
        size.ws_col) {
        resizeterm(size.ws_row, size.ws_col);
        /* A terminal may have moved what it showed. */
        clearok(stdscr, TRUE);
        on_draw(on_opaque);
    }
    return G_SOURCE_CONTINUE;
}

static void begin_colours(void)
{
    const char *none = g_getenv("NO_COLOR");

    coloured = (!none || !*none) && has_colors() && start_color() == OK;
    if (coloured) {
        use_default_colors();
        init_pair(CTL_COLOUR_GOOD, COLOR_GREEN, -1);
        init_pair(CTL_COLOUR_DOUBTFUL, COLOR_YELLOW, -1);
        init_pair(CTL_COLOUR_BAD, COLOR_RED, -1);
        init_pair(CTL_COLOUR_FAINT, COLOR_CYAN, -1);
    }
}

bool ctl_screen_begin(CtlScreenDraw *draw, CtlScreenKey *key, void *opaque,
                      GError **err)
{
    screen = newterm(NULL, stdout, stdin);
    if (screen && !tigetstr("cup")) {
        /* It cannot move its cursor. */
        endwin();
        delscreen(screen);
        screen = NULL;
    }
    if (!screen) {
        const char *term = g_getenv("TERM");

        g_set_error(err, CTL_ERROR, CTL_ERROR_FAILED, "the terminal \"%s\" "
                    "cannot show this; set TERM, or say \"curlingctl watch | "
                    "cat\"", term ? term : "");
        return false;
    }
    on_draw = draw;
    on_key = key;
    on_opaque = opaque;
    unicode = g_str_equal(nl_langinfo(CODESET), "UTF-8");
    cbreak();
    noecho();
    nodelay(stdscr, TRUE);
    keypad(stdscr, TRUE);
    curs_set(0);
    begin_colours();
    key_source = g_unix_fd_add(STDIN_FILENO, G_IO_IN | G_IO_HUP, read_keys,
                               NULL);
    size_source = g_unix_signal_add(SIGWINCH, take_size, NULL);
    return true;
}

void ctl_screen_end(void)
{
    if (screen) {
        g_clear_handle_id(&key_source, g_source_remove);
        g_clear_handle_id(&size_source, g_source_remove);
        endwin();
        delscreen(screen);
        screen = NULL;
    }
}

void ctl_screen_clear(void)
{
    erase();
    row = 0;
}

static void colour_on(CtlColour colour)
{
    if (coloured && colour != CTL_COLOUR_PLAIN) {
        attron(COLOR_PAIR(colour));
    } else if (colour == CTL_COLOUR_BAD || colour == CTL_COLOUR_DOUBTFUL) {
        attron(A_BOLD);
    }
}

void ctl_screen_line(CtlColour colour, const char *fmt, ...)
{
    g_autofree char *text = NULL;
    g_autofree char *clean = NULL;
    va_list args;

    va_start(args, fmt);
    text = g_strdup_vprintf(fmt, args);
    va_end(args);
    clean = ctl_quote(text, 1000);
    if (row < LINES - 1) {
        colour_on(colour);
        mvaddnstr(row, 0, *text == ' ' ? " " : "", -1);
        addnstr(clean, -1);
        /* What is longer went on in the next line. */
        if (getcury(stdscr) > row) {
            move(row + 1, 0);
            clrtobot();
        }
        attrset(A_NORMAL);
    }
    row++;
}

/* One cell of a graph: @part of 0 to 1. */
static const char *cell(double part)
{
    static const char *const blocks[] = {
        "\u2581", "\u2582", "\u2583", "\u2584", "\u2585", "\u2586", "\u2587",
        "\u2588"
    };
    static const char *const letters[] = {
        "_", ".", "-", "=", "+", "*", "#", "@"
    };
    size_t i = CLAMP(part * 8, 0, 7);

    return unicode ? blocks[i] : letters[i];
}

void ctl_screen_graph(const char *title, const char *text,
                      const int64_t *values, size_t number)
{
    size_t width = COLS > GRAPH_COLUMN + 2 ? COLS - GRAPH_COLUMN - 2 : 0;
    size_t shown = MIN(number, width);
    int64_t most = 1;

    ctl_screen_line(CTL_COLOUR_PLAIN, " %-12s %12s", title, text);
    if (row > LINES - 1) {
        return;
    }
    values += number - shown;
    for (size_t i = 0; i < shown; i++) {
        most = MAX(most, values[i]);
    }
    move(row - 1, GRAPH_COLUMN);
    colour_on(CTL_COLOUR_FAINT);
    for (size_t i = 0; i < shown; i++) {
        addstr(values[i] < 0 ? " " : cell((double)values[i] / most));
    }
    attrset(A_NORMAL);
}

void ctl_screen_bottom(const char *text)
{
    if (LINES > 1) {
        mvaddnstr(LINES - 1, 0, text, COLS - 1);
    }
}

void ctl_screen_show(void)
{
    refresh();
}
