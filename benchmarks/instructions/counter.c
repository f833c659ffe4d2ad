/* Count the instructions that one thread executes between two signals that it raises itself.
 *
 *   counter PROGRAM ARGUMENT…
 *
 * The program raises SIGUSR1 to begin and SIGUSR2 to end, as often as it likes; each time the
 * number of instructions in between is printed, one a line. It is stepped through by the kernel,
 * so that no performance counters, which virtual machines lack, and no package are needed. The
 * signals are swallowed. Addresses are not randomized, so that the same program gives the same
 * number; only the first thread is looked at.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

static void die(const char *what) {
    fprintf(stderr, "counter: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void become(char **command) {
    personality(ADDR_NO_RANDOMIZE); /* where that is forbidden, numbers vary a little more */
    if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0)
        die("ptrace is not allowed here");
    execvp(command[0], command);
    die(command[0]);
}

/* They take turns at every step; on one core that costs a third. */
static void share_a_core(void) {
    cpu_set_t core;
    CPU_ZERO(&core);
    CPU_SET(sched_getcpu(), &core);
    sched_setaffinity(0, sizeof core, &core);
}

int main(int count, char **values) {
    if (count < 2) {
        fputs("usage: counter PROGRAM ARGUMENT...\n", stderr);
        return 2;
    }
    share_a_core();
    pid_t child = fork();
    if (child == 0)
        become(values + 1);
    uint64_t steps = 0;
    int stepping = 0, status;
    while (waitpid(child, &status, 0) == child && WIFSTOPPED(status)) {
        int signal = WSTOPSIG(status), passed = 0;
        if (signal == SIGUSR1) {
            stepping = 1;
            steps = 0;
        } else if (signal == SIGUSR2) {
            stepping = 0;
            printf("%lu\n", steps);
        } else if (signal == SIGTRAP) {
            steps++;
        } else {
            passed = signal; /* its own affair: a segmentation fault, an end */
        }
        if (ptrace(stepping ? PTRACE_SINGLESTEP : PTRACE_CONT, child, NULL, passed) < 0)
            die("ptrace");
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
