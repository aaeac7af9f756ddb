/*
 * curlingctl complete: words for the completion of shells, one in each line
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <stdio.h>
#include "ctl-pair.h"
#include "ctl-pairsconf.h"
#include "ctl-setting.h"

static void print_choices(const char *name)
{
    const CtlSetting *setting = ctl_setting_find(name, NULL);

    for (size_t i = 0; setting && setting->choices && setting->choices[i];
         i++) {
        printf("%s\n", setting->choices[i]);
    }
}

int ctl_complete_main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";

    if (g_str_equal(what, "commands")) {
        for (const CtlCommand *c = ctl_commands; c->name; c++) {
            if (c->summary) {
                printf("%s\n", c->name);
            }
        }
    } else if (g_str_equal(what, "pairs")) {
        g_auto(GStrv) names = ctl_pair_names(NULL);

        for (char **name = names; *name; name++) {
            printf("%s\n", *name);
        }
    } else if (g_str_equal(what, "settings")) {
        for (const CtlSetting *s = ctl_settings; s->name; s++) {
            printf("%s\n", s->name);
        }
    } else if (g_str_equal(what, "values") && argc > 2) {
        print_choices(argv[2]);
    } else {
        return CTL_EXIT_USAGE;
    }
    return CTL_EXIT_OK;
}
