/*
 * The terminal of "watch": pages of text, graphs, keys.  The only part of
 * curlingctl that knows ncurses.
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef CURLING_CTL_SCREEN_H
#define CURLING_CTL_SCREEN_H

#include "ctl.h"

typedef enum CtlColour {
    CTL_COLOUR_PLAIN,
    CTL_COLOUR_GOOD,
    CTL_COLOUR_DOUBTFUL,
    CTL_COLOUR_BAD,
    CTL_COLOUR_FAINT,
} CtlColour;

/*
 * Take over the terminal that stdin and stdout are.  @draw is called when the
 * window has another size, @key for each key, both from the main loop.  False:
 * @err.  Colours are left out where NO_COLOR is set.
 */
typedef void CtlScreenDraw(void *opaque);
typedef void CtlScreenKey(int key, void *opaque);
bool ctl_screen_begin(CtlScreenDraw *draw, CtlScreenKey *key, void *opaque,
                      GError **err);

/* Give it back, as it was. */
void ctl_screen_end(void);

/* A page: begin, lines from the top, show.  What does not fit is cut. */
void ctl_screen_clear(void);
void ctl_screen_line(CtlColour colour, const char *fmt, ...)
    G_GNUC_PRINTF(2, 3);
void ctl_screen_show(void);

/* A line: @title, @text and, as wide as there is room, a graph of the last of
 * @number values, of which -1 is none; the highest one fills the line. */
void ctl_screen_graph(const char *title, const char *text,
                      const int64_t *values, size_t number);

/* A line at the bottom of the window. */
void ctl_screen_bottom(const char *text);

#endif
