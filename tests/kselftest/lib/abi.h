/* SPDX-License-Identifier: GPL-2.0 */
/* What the ioctl contract tests share. */
#ifndef ABI_H
#define ABI_H

#include "vm.h"

/* An address that no process has mapped. */
#define BAD_POINTER ((void *)0x1000)

/* Not what ioctl(2) says, but what the device, a VM and a vCPU say of a number that they do not know. */
#define EXPECT_UNKNOWN_IOCTL(fd, request) EXPECT_ERRNO(ioctl(fd, request, 0), EINVAL)

#define UNKNOWN_IOCTL _IO(KVMIO, 0xfe)

/* How many file descriptors this process has open: a failed ioctl must not leave one behind. */
int open_fds(void);

/* The statistics (KVM_GET_STATS_FD) of a vCPU's or a VM's fd; skips the test where there are none. */
int stats_of(int fd);

/* What the counter of that name stands at. */
u64 stats_counter(int stats, const char *name);

/*
 * Loads loft's module anew, with these parameters; false where it does not load. Nothing of it may be in use, so before the case
 * opens the device. Skips the case where that is not in question.
 */
bool load_module(const char *parameters);

#endif
