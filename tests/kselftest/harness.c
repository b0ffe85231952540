// SPDX-License-Identifier: GPL-2.0
/* The harness itself: guest boot with the MMU on, messages, exceptions, several vCPUs, and that its checks can fail. */
#include "psci.h"
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
