/*
 * test-point.h - places where a test may make a run stand still
 *
 * KVSS_TEST_STALL=POINT:SECONDS makes kvss_test_point(POINT) sleep that long, so
 * that a test can kill or stop the process inside a window that is otherwise a
 * few milliseconds wide; POINT:SECONDS:FILE ends it as soon as FILE is there. Points: looked, frozen, cut, still, copy, commit,
 * writer-frozen, restore-files, restore-in-place, restore-define, prune-N; step-N, N from 0: before and behind each
 * line of the journal, in this process. Without the variable it costs one getenv().
 */
#pragma once

void kvss_test_point(const char *point);
