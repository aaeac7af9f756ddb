/*
 * Feeds files to a fuzz harness, where there is no libFuzzer
 *
 * test-fuzz-NAME [FILE|FOLDER]...; by default all of tests/corpus/NAME of the
 * tree that the program is in.  What was once found stays found.
 *
 * Copyright the Curling authors
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fuzz.h"

static unsigned int replayed;

static void die(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    exit(1);
}

static void replay_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    uint8_t *data;
    struct stat st;

    if (!file || fstat(fileno(file), &st)) {
        die(path);
    }
    /* Exactly as long as the file is: ASan sees who reads beyond. */
    data = malloc(st.st_size ? (size_t)st.st_size : 1);
    if (!data || fread(data, 1, (size_t)st.st_size, file) !=
                 (size_t)st.st_size) {
        die(path);
    }
    fclose(file);
    /* The last line of a log is the file that did it. */
    printf("%s\n", path);
    fflush(stdout);
    LLVMFuzzerTestOneInput(data, (size_t)st.st_size);
    free(data);
    replayed++;
}

static void replay(const char *path)
{
    char inside[PATH_MAX];
    struct dirent *entry;
    struct stat st;
    DIR *folder;

    if (stat(path, &st)) {
        die(path);
    }
    if (!S_ISDIR(st.st_mode)) {
        replay_file(path);
        return;
    }
    folder = opendir(path);
    if (!folder) {
        die(path);
    }
    while ((entry = readdir(folder))) {
        if (entry->d_name[0] != '.') {
            snprintf(inside, sizeof(inside), "%s/%s", path, entry->d_name);
            replay_file(inside);
        }
    }
    closedir(folder);
}

/* build/tests/test-fuzz-NAME and the like: in which tree is that? */
static void replay_corpus(void)
{
    char corpus[PATH_MAX + 64];
    char tree[PATH_MAX] = "";
    const char *name;
    char *slash;

    if (readlink("/proc/self/exe", tree, sizeof(tree) - 1) < 0) {
        die("/proc/self/exe");
    }
    name = strstr(strrchr(tree, '/'), "fuzz-");
    name = strdup(name ? name + strlen("fuzz-") : "");
    while ((slash = strrchr(tree, '/'))) {
        *slash = 0;
        snprintf(corpus, sizeof(corpus), "%s/tests/corpus/%s", tree, name);
        if (!access(corpus, R_OK)) {
            break;
        }
    }
    replay(corpus);
    free((char *)name);
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        replay(argv[i]);
    }
    if (argc < 2) {
        replay_corpus();
    }
    printf("%u files replayed\n", replayed);
    return replayed ? 0 : 1;
}
