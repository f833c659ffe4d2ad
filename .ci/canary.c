/* Two mistakes, for .ci/sanitize.py to see that the sanitizers are awake. */
#include <pthread.h>
#include <stdlib.h>

static long shared;

static void *add(void *unused) {
    (void)unused;
    for (int i = 0; i < 1000; i++) shared++;
    return NULL;
}

int overrun(void) {
    volatile char *bytes = malloc(8);
    volatile char beyond = bytes[8];
    free((void *)bytes);
    return beyond;
}

int race(void) {
    pthread_t one, two;
    pthread_create(&one, NULL, add, NULL);
    pthread_create(&two, NULL, add, NULL);
    pthread_join(one, NULL);
    pthread_join(two, NULL);
    return (int)shared;
}
