/* Runs a fuzz target over every file of a corpus folder, without libFuzzer: replay_<target> FOLDER. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

/* The whole file in a block of exactly its size, so that a sanitizer sees a read past the end. */
static int replay_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (!file) return -1;
    int rc = -1;
    long n = fseek(file, 0, SEEK_END) == 0 ? ftell(file) : -1;
    uint8_t *data = n >= 0 ? malloc(n ? (size_t)n : 1) : NULL;
    if (data && fseek(file, 0, SEEK_SET) == 0 && fread(data, 1, (size_t)n, file) == (size_t)n) {
        LLVMFuzzerTestOneInput(data, (size_t)n);
        rc = 0;
    }
    free(data);
    fclose(file);
    return rc;
}

int main(int argc, char **argv)
{
    DIR *folder = argc == 2 ? opendir(argv[1]) : NULL;
    if (!folder) {
        fprintf(stderr, "usage: %s FOLDER (%s)\n", argv[0], argc == 2 ? "it cannot be opened" : "one argument");
        return 1;
    }
    unsigned n_files = 0, n_failed = 0;
    for (struct dirent *entry; (entry = readdir(folder));) {
        if (entry->d_name[0] == '.') continue;
        char path[4096];
        snprintf(path, sizeof path, "%s/%s", argv[1], entry->d_name);
        if (replay_file(path)) {
            fprintf(stderr, "%s cannot be read\n", path);
            n_failed++;
        }
        n_files++;
    }
    closedir(folder);
    printf("%u files replayed, %u unreadable\n", n_files, n_failed);
    return n_files == 0 || n_failed > 0;
}
