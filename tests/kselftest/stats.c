// SPDX-License-Identifier: GPL-2.0
/* KVM_GET_STATS_FD: the counters of a vCPU and of a VM count what has happened. The format has a test in KVM's selftests. */
#include <string.h>
#include <unistd.h>

#include "abi.h"
#include "psci.h"
#include "vm.h"

#define CALLS 100

static void guest_calls(u64 arg)
{
	for (int i = 0; i < CALLS; i++)
		guest_hvc(0x80000000, 0, 0, 0);
	GUEST_SYNC(1);
	for (int i = 0; i < CALLS; i++)
		guest_hvc(0x80000000, 0, 0, 0);
}

TEST(hypercalls_are_counted)
{
	struct vm *vm = vm_create(.main = guest_calls);
	struct vcpu *vcpu = &vm->vcpus[0];
	int fd = stats_of(vcpu->fd);
	u64 before, exits;

	EXPECT_EQ(stats_counter(fd, "hvc_exit_stat"), 0);
	EXPECT_EQ(stats_counter(fd, "exits"), 0);
	vcpu_sync(vcpu, 1);
	before = stats_counter(fd, "hvc_exit_stat");
	exits = stats_counter(fd, "exits");
	EXPECT(before >= CALLS);
	EXPECT(exits > 0);
	EXPECT(stats_counter(fd, "mmio_exit_user") > 0);
	vcpu_done(vcpu);
	EXPECT(stats_counter(fd, "hvc_exit_stat") >= before + CALLS);
	EXPECT(stats_counter(fd, "exits") > exits);
}

TEST(end_and_beyond)
{
	struct vm *vm = vm_create(.main = guest_calls);
	int fd = stats_of(vm->vcpus[0].fd), of_vm = stats_of(vm->fd);
	char buffer[64];

	EXPECT_EQ(pread(fd, buffer, sizeof(buffer), 1 << 20), 0);
	EXPECT_ERRNO(pread(fd, BAD_POINTER, 64, 0), EFAULT);
	EXPECT_ERRNO(ioctl(fd, KVM_RUN, 0), ENOTTY);
	EXPECT(pread(of_vm, buffer, sizeof(buffer), 0) == sizeof(buffer));
	/* They keep what they need when all else is closed. */
	vm_destroy(vm);
	EXPECT(pread(fd, buffer, sizeof(buffer), 0) == sizeof(buffer));
	EXPECT(pread(of_vm, buffer, sizeof(buffer), 0) == sizeof(buffer));
	close(fd);
	close(of_vm);
}
