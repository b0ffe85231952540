/* SPDX-License-Identifier: GPL-2.0 */
/*
 * KTAP output and host-side checks.
 *
 * A test program is a set of TEST() cases. Each case runs in a child process of its own: a failed check, a crash or a
 * hang ends that case alone, and whatever VM it made goes with it. main() is in ktap.c.
 *
 *   program [DEVICE] [CASE...]     DEVICE defaults to $LOFT_DEVICE, then /dev/loft
 *
 * Exit status: 0 all passed or skipped, 1 something failed, 4 everything was skipped.
 */
#ifndef KTAP_H
#define KTAP_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int64_t s64;

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define ALIGN_UP(x, a) (((x) + (a) - 1) & ~((u64)(a) - 1))

struct ktap_case {
	const char *name;
	void (*fn)(void);
	int line;
	int seconds; /* a case that takes longer has failed */
};

#define TEST_SECONDS(NAME, SECONDS)                                                                 \
	static void case_##NAME(void);                                                              \
	static const struct ktap_case ktap_##NAME __attribute__((used, section("ktap_cases"))) = { \
		#NAME, case_##NAME, __LINE__, SECONDS                                               \
	};                                                                                          \
	static void case_##NAME(void)
/* A case: TEST(name) { ... }. It passes when it returns and no EXPECT failed. */
#define TEST(NAME) TEST_SECONDS(NAME, 30)

/* The path of the device under test, and whether that is KVM (the reference) rather than loft. */
extern const char *ktap_device;
bool ktap_on_kvm(void);

/* How often to do what is done N times: less often on a slow machine, unless LOFT_LONG is set. */
int ktap_times(int n);

void ktap_note(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* Ends the case. */
void ktap_skip(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));
void ktap_fail(const char *file, int line, const char *fmt, ...) __attribute__((format(printf, 3, 4), noreturn));
/* Records a failure and goes on. */
void ktap_expect(const char *file, int line, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

#define FAIL(...) ktap_fail(__FILE__, __LINE__, __VA_ARGS__)
#define SKIP(...) ktap_skip(__VA_ARGS__)

/* CHECK ends the case where it fails, EXPECT lets it go on so that one run shows every deviation. */
#define CHECK(c) ((c) ? (void)0 : FAIL("%s (errno %d %s)", #c, errno, strerrorname_np(errno)))
#define EXPECT(c) ((c) ? (void)0 : ktap_expect(__FILE__, __LINE__, "%s (errno %d)", #c, errno))

#define KTAP_EQ(report, a, b)                                                                             \
	do {                                                                                              \
		u64 a_ = (u64)(a), b_ = (u64)(b);                                                         \
		if (a_ != b_)                                                                             \
			report(__FILE__, __LINE__, "%s == %s: %#llx (%lld) against %#llx (%lld)", #a, #b, \
			       (unsigned long long)a_, (long long)a_, (unsigned long long)b_, (long long)b_); \
	} while (0)
#define CHECK_EQ(a, b) KTAP_EQ(ktap_fail, a, b)
#define EXPECT_EQ(a, b) KTAP_EQ(ktap_expect, a, b)

/* A system call that must succeed (result >= 0, which is its value), or must fail with the errno E. */
#define CHECK_OK(call)                                                                                     \
	({                                                                                                 \
		long r_ = (call);                                                                          \
		if (r_ < 0)                                                                                \
			FAIL("%s: %s", #call, strerrorname_np(errno));                                     \
		r_;                                                                                        \
	})
#define EXPECT_OK(call)                                                                                    \
	({                                                                                                 \
		long r_ = (call);                                                                          \
		if (r_ < 0)                                                                                \
			ktap_expect(__FILE__, __LINE__, "%s: %s", #call, strerrorname_np(errno));          \
		r_;                                                                                        \
	})
#define EXPECT_ERRNO(call, e)                                                                              \
	do {                                                                                               \
		errno = 0;                                                                                 \
		long r_ = (call);                                                                          \
		if (r_ != -1)                                                                              \
			ktap_expect(__FILE__, __LINE__, "%s: %ld, wanted " #e, #call, r_);                 \
		else if (errno != (e))                                                                     \
			ktap_expect(__FILE__, __LINE__, "%s: %s, wanted " #e, #call, strerrorname_np(errno)); \
	} while (0)

#endif
