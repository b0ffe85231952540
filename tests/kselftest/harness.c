// SPDX-License-Identifier: GPL-2.0
/* The harness itself: guest boot with the MMU on, messages, exceptions, several vCPUs, and that its checks can fail. */
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vm.h"

static int counter = 5;
static u64 table[4] = { 1, 2, 3, 4 };

static void guest_basics(u64 arg)
{
	u64 esr;

	GUEST_CHECK_EQ(arg, 0);
	GUEST_CHECK_EQ(counter, 5);
	counter = 6;
	GUEST_SYNC2(1, table[2]);
	GUEST_CHECK_EQ(counter, 7); /* as the host set it */

	/* An unaligned access and exclusives work: the memory is normal memory. */
	*(volatile u32 *)((u8 *)table + 3) = 0x11223344;
	GUEST_CHECK_EQ(*(volatile u32 *)((u8 *)table + 3), 0x11223344);
	GUEST_CHECK_EQ(__atomic_add_fetch(&table[1], 5, __ATOMIC_SEQ_CST), table[1]);

	esr = GUEST_PROBE("brk #0x123");
	GUEST_CHECK_EQ(ESR_EC(esr), EC_BRK64);
	GUEST_CHECK_EQ(esr & 0xffff, 0x123);
	esr = GUEST_PROBE("udf #0");
	GUEST_CHECK_EQ(ESR_EC(esr), EC_UNKNOWN);
	GUEST_CHECK_EQ(GUEST_PROBE("nop"), 0);
}

TEST(boot_and_messages)
{
	struct vm *vm = vm_create(.main = guest_basics);
	struct vcpu *vcpu = &vm->vcpus[0];

	CHECK_EQ(vcpu_sync(vcpu, 1), 3);
	CHECK_EQ(VM_GLOBAL(vm, counter), 6);
	CHECK_EQ(counter, 5); /* the host's own is another */
	VM_GLOBAL(vm, counter) = 7;
	vcpu_done(vcpu);
	vm_destroy(vm);
}

static u64 arrivals;

static void guest_meet(u64 arg)
{
	GUEST_CHECK_EQ(read_sysreg(mpidr_el1) & 0xff, arg);
	atomic_inc(&arrivals);
	while (load_acquire(&arrivals) < 4)
		wfe();
	__asm__ volatile("sev");
}

TEST(four_vcpus)
{
	struct vm *vm = vm_create(.main = guest_meet, .vcpus = 4);

	vm_run_all(vm);
	CHECK_EQ(VM_GLOBAL(vm, arrivals), 4);
}

/* ---- That its checks can fail: each of these runs in a child, whose end must be a failure. ---- */

static int status_of(void (*fn)(void))
{
	pid_t child = CHECK_OK(fork());
	int status;

	if (child == 0) {
		/* What a failure prints is wanted here, and nobody's business. */
		dup2(open("/dev/null", O_WRONLY), STDOUT_FILENO);
		fn();
		_exit(0);
	}
	CHECK_EQ(waitpid(child, &status, 0), child);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 256 + WTERMSIG(status);
}

static void guest_fails(u64 arg)
{
	GUEST_CHECK_EQ(arg, 1);
}

static void guest_faults(u64 arg)
{
	__asm__ volatile("udf #0");
}

static void guest_wanders(u64 arg)
{
	mmio_write32(0x0a000000, 1);
}

static void run_guest(void (*fn)(u64))
{
	vcpu_done(&vm_create(.main = fn)->vcpus[0]);
}

static void bad_guest_check(void)
{
	run_guest(guest_fails);
}

static void bad_guest_exception(void)
{
	run_guest(guest_faults);
}

static void bad_exit(void)
{
	run_guest(guest_wanders);
}

static void bad_host_check(void)
{
	CHECK_EQ(1, 2);
}

static void bad_errno(void)
{
	CHECK_OK(close(-1));
}

static void good(void)
{
}

TEST(failures_are_seen)
{
	CHECK_EQ(status_of(good), 0);
	CHECK_EQ(status_of(bad_guest_check), 1);
	CHECK_EQ(status_of(bad_guest_exception), 1);
	CHECK_EQ(status_of(bad_exit), 1);
	CHECK_EQ(status_of(bad_host_check), 1);
	CHECK_EQ(status_of(bad_errno), 1);
	CHECK_EQ(status_of(abort), 256 + SIGABRT);
}
