// SPDX-License-Identifier: GPL-2.0
/*
 * A guest switches its caches off and on. Where stage 2 cannot make all its accesses cacheable (no FEAT_S2FWB), what it wrote
 * past the caches must be in no danger from lines that the host has fetched: its memory is cleaned at each switch, which shows in
 * stage 2 faults. Whether a CPU forgets to look into its caches cannot be seen on an emulated one, which has none.
 */
#include <stdio.h>

#include "abi.h"
#include "tracefs.h"

#define SCTLR_C (1UL << 2)
#define WRITES 10

/* Of the CPUs that QEMU has: those before Armv8.4. */
static bool has_fwb(void)
{
	FILE *f = fopen("/sys/devices/system/cpu/cpu0/regs/identification/midr_el1", "r");
	unsigned long midr = 0;

	CHECK(f);
	CHECK_EQ(fscanf(f, "%lx", &midr), 1);
	fclose(f);
	switch (midr & 0xff00fff0) {
	case 0x4100d0b0: /* Cortex-A76 */
	case 0x4100d0c0: /* Neoverse N1 */
	case 0x46000010: /* A64FX */
		return false;
	}
	return true;
}

static u64 page[512] __attribute__((aligned(4096)));

static void touch(u64 step)
{
	WRITE_ONCE(page[0], step);
	GUEST_SYNC(step);
}

static void write_mmu_registers(void)
{
	for (u64 i = 1; i <= WRITES; i++) {
		write_sysreg(i, contextidr_el1);
		GUEST_CHECK_EQ(read_sysreg(contextidr_el1), i);
	}
}

static void switch_caches(bool on)
{
	u64 sctlr = read_sysreg(sctlr_el1);

	write_sysreg(on ? sctlr | SCTLR_C : sctlr & ~SCTLR_C, sctlr_el1);
	isb();
	GUEST_CHECK_EQ(read_sysreg(sctlr_el1), on ? sctlr | SCTLR_C : sctlr & ~SCTLR_C);
}

static void guest_switches(u64 arg)
{
	touch(1);
	touch(2);
	write_mmu_registers();
	touch(3);
	__asm__ volatile("dsb sy; dc cisw, xzr; dsb sy; isb" : : : "memory");
	touch(4);
	write_mmu_registers();
	__asm__ volatile("dc cisw, xzr; dc csw, xzr" : : : "memory");
	touch(5);
	switch_caches(false);
	touch(6);
	write_mmu_registers();
	touch(7);
	switch_caches(true);
	touch(8);
	write_mmu_registers();
	touch(9);
}

struct counts {
	u64 faults, sysregs;
};

/* Up to the next step; what has been counted since the one before. */
static struct counts to(struct vcpu *vcpu, int stats, u64 step)
{
	static struct counts last;
	struct counts now, passed;

	vcpu_sync(vcpu, step);
	now = (struct counts){ stats_counter(stats, "stage2_faults"), stats_counter(stats, "sysreg_exit_stat") };
	passed = (struct counts){ now.faults - last.faults, now.sysregs - last.sysregs };
	last = now;
	ktap_note("step %lu: %lu faults, %lu system registers", step, passed.faults, passed.sysregs);
	return passed;
}

TEST(switched_off_and_on)
{
	struct vm *vm = vm_create(.main = guest_switches);
	struct vcpu *vcpu = &vm->vcpus[0];
	bool fwb = has_fwb();
	struct counts passed;
	int stats;

	if (ktap_on_kvm())
		SKIP("KVM has no such counters");
	stats = stats_of(vcpu->fd);
	passed = to(vcpu, stats, 1);
	EXPECT_EQ(passed.sysregs, fwb ? 0 : 4); /* MAIR, TCR, TTBR0, SCTLR: it has set its MMU up */
	passed = to(vcpu, stats, 2);
	EXPECT_EQ(passed.faults, 0);
	passed = to(vcpu, stats, 3);
	EXPECT_EQ(passed.sysregs, 0); /* on: they are not watched */
	passed = to(vcpu, stats, 4);
	EXPECT_EQ(passed.faults > 0, !fwb); /* by set and way: cleaned */
	EXPECT_EQ(passed.sysregs, 1);
	passed = to(vcpu, stats, 5);
	/* The caches are on: the first write to the MMU tells that it has not gone on to switch them off. Then twice by set and way. */
	EXPECT_EQ(passed.sysregs, fwb ? 2 : 3);
	EXPECT_EQ(passed.faults > 0, !fwb);
	passed = to(vcpu, stats, 6);
	EXPECT_EQ(passed.sysregs, fwb ? 0 : 1);
	EXPECT_EQ(passed.faults > 0, !fwb); /* off: cleaned */
	passed = to(vcpu, stats, 7);
	EXPECT_EQ(passed.sysregs, fwb ? 0 : WRITES);
	EXPECT_EQ(passed.faults, 0);
	passed = to(vcpu, stats, 8);
	EXPECT_EQ(passed.sysregs, fwb ? 0 : 1);
	EXPECT_EQ(passed.faults > 0, !fwb); /* on: cleaned, and no longer watched */
	passed = to(vcpu, stats, 9);
	EXPECT_EQ(passed.sysregs, 0);
	EXPECT_EQ(passed.faults, 0);
	vcpu_done(vcpu);
}

/* The trace has each time that the guest's memory is cleaned for it. */
TEST(switches_are_traced)
{
	bool fwb = has_fwb();
	struct vm *vm;

	if (ktap_on_kvm())
		SKIP("about loft alone");
	if (!have_trace())
		SKIP("this kernel traces nothing");
	vm = vm_create(.main = guest_switches);
	CHECK(put(TRACING "trace", ""));
	CHECK(put(TRACING "events/loft/enable", "1"));
	for (u64 step = 1; step <= 9; step++)
		vcpu_sync(&vm->vcpus[0], step);
	CHECK(put(TRACING "events/loft/enable", "0"));
	vcpu_done(&vm->vcpus[0]);
	EXPECT_EQ(events_with("kvm_set_way_flush: S/W flush at 0x", "(cache on)"), fwb ? 0 : 2);
	EXPECT_EQ(events_with("kvm_set_way_flush: ", ""), fwb ? 0 : 2);
	EXPECT_EQ(events_with("kvm_toggle_cache: VM op at 0x", "(cache was off, now on)"), fwb ? 0 : 2);
	EXPECT_EQ(events_with("kvm_toggle_cache: VM op at 0x", "(cache was on, now off)"), fwb ? 0 : 1);
}

/* Restored with its caches on: userspace has set SCTLR_EL1, and there is nothing to wait for. */
static void guest_restored(u64 arg)
{
	GUEST_SYNC(1);
	write_mmu_registers();
	GUEST_SYNC(2);
}

TEST(restored_with_its_caches_on)
{
	struct vm *vm = vm_create(.main = guest_restored);
	struct vcpu *vcpu = &vm->vcpus[0];
	struct kvm_vcpu_init init;
	u64 regs[40], id, n = 0, sctlr = ARM64_SYS_REG(3, 0, 1, 0, 0);
	u64 ids[] = { ARM64_SYS_REG(3, 0, 2, 0, 0), ARM64_SYS_REG(3, 0, 2, 0, 2), ARM64_SYS_REG(3, 0, 10, 2, 0),
		      ARM64_SYS_REG(3, 0, 12, 0, 0), ARM64_SYS_REG(3, 0, 13, 0, 4), ARM64_SYS_REG(3, 0, 1, 0, 2), sctlr };
	int stats;

	if (ktap_on_kvm())
		SKIP("KVM has no such counters");
	vcpu_sync(vcpu, 1);
	for (id = 0; id < ARRAY_SIZE(ids); id++)
		regs[n++] = reg_get(vcpu, ids[id]);
	for (id = 0; id < 31; id++)
		regs[n++] = reg_get(vcpu, CORE_REG(regs.regs[id]));
	regs[n++] = reg_get(vcpu, CORE_REG(sp_el1));
	regs[n++] = reg_get(vcpu, CORE_REG(regs.pc));
	CHECK_OK(ioctl(vm->fd, KVM_ARM_PREFERRED_TARGET, &init));
	init.features[0] |= 1 << KVM_ARM_VCPU_PSCI_0_2;
	CHECK_OK(ioctl(vcpu->fd, KVM_ARM_VCPU_INIT, &init));
	for (n = 0; n < ARRAY_SIZE(ids); n++)
		reg_set(vcpu, ids[n], regs[n]);
	for (id = 0; id < 31; id++)
		reg_set(vcpu, CORE_REG(regs.regs[id]), regs[n++]);
	reg_set(vcpu, CORE_REG(sp_el1), regs[n++]);
	reg_set(vcpu, CORE_REG(regs.pc), regs[n++]);
	vcpu_sync(vcpu, 1); /* again: that it had been told was not saved */
	stats = stats_of(vcpu->fd);
	n = stats_counter(stats, "sysreg_exit_stat");
	vcpu_sync(vcpu, 2);
	/* The first one tells. */
	EXPECT_EQ(stats_counter(stats, "sysreg_exit_stat") - n, has_fwb() ? 0 : 1);
	vcpu_done(vcpu);
}
