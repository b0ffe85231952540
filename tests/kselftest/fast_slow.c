// SPDX-License-Identifier: GPL-2.0
/*
 * The same guest, once with exits answered in the exception vector and once with all of them answered the slow way (the module's
 * parameter `fast`): it must not be able to tell. It writes down all that it sees.
 */
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "abi.h"
#include "gic.h"
#include "timer.h"

#define NOTES 8192
#define DOORBELL 0x0a000000UL

static u64 notes[NOTES], count;

static void note(u64 value)
{
	if (count < NOTES)
		notes[count] = value;
	count++;
}

/* Firmware calls: with answers, without, unknown. */
static void note_calls(void)
{
	static const u64 calls[][2] = {
		{ 0x80000000 }, { 0x80000001, 0x80000000 }, { 0x80000001, 0x80000002 }, { 0x80000001, 0x80008000 },
		{ 0x80000001, 0x80007fff }, { 0x80000001, 0x80003fff }, { 0x80000001, 0xc5000020 }, { 0x80000001, 0xdead },
		{ 0x80000002 }, { 0x80003fff }, { 0x84000000 }, { 0x8400000a, 0x84000000 }, { 0x8400000a, 0xc4000003 },
		{ 0x8400000a, 0x80000000 }, { 0x84000006 }, { 0xc4000004, 0 }, { 0x84000050 }, { 0x84000051, 0xc4000053 },
		{ 0x8600ff01 }, { 0xc5000020, 0xc5000021 }, { 0xffffffff }, { 0x180000000 }, { 0 },
	};

	for (u32 i = 0; i < ARRAY_SIZE(calls); i++) {
		struct smccc_result r = guest_hvc(calls[i][0], calls[i][1], 0x5a5a, 0xa5a5);

		note(r.x0), note(r.x1), note(r.x2), note(r.x3);
	}
}

/* The identification registers, which all trap; and one of them into each general register. */
#define ID(m, n) note(read_sysreg(S3_0_C0_C##m##_##n));
#define IDS(m) ID(m, 0) ID(m, 1) ID(m, 2) ID(m, 3) ID(m, 4) ID(m, 5) ID(m, 6) ID(m, 7)
#define INTO(x)                                                                                      \
	{                                                                                            \
		u64 v;                                                                               \
		__asm__ volatile("mrs " #x ", id_aa64pfr0_el1\n\tmov %0, " #x : "=r"(v) : : #x); \
		note(v);                                                                             \
	}

static void note_registers(void)
{
	IDS(1) IDS(2) IDS(3) IDS(4) IDS(5) IDS(6) IDS(7)
	INTO(x0) INTO(x1) INTO(x2) INTO(x3) INTO(x4) INTO(x5) INTO(x6) INTO(x7) INTO(x8) INTO(x9) INTO(x10) INTO(x11)
	INTO(x12) INTO(x13) INTO(x14) INTO(x15) INTO(x16) INTO(x17) INTO(x18) INTO(x19) INTO(x20) INTO(x21) INTO(x22)
	INTO(x23) INTO(x24) INTO(x25) INTO(x26) INTO(x27) INTO(x28) INTO(x30)
	__asm__ volatile("mrs xzr, id_aa64pfr0_el1");
}

/* The interrupt controller's registers, as they are, and after all bits of those that can be written were. */
static u64 read_at(u64 at, u32 size)
{
	return size == 1 ? mmio_read8(at) : size == 4 ? mmio_read32(at) : mmio_read64(at);
}

static void note_frames(void)
{
	for (u64 at = 0; at < 0x1000; at += 4)
		note(read_at(GUEST_GICD + at, 4));
	for (u64 at = 0; at < 0x100; at += 4)
		note(read_at(gic_redist() + at, 4));
	for (u64 at = 0; at < 0xe00; at += 4)
		note(read_at(gic_redist() + GICR_SGI + at, 4));
	for (u64 at = 0; at < 64; at++)
		note(read_at(GUEST_GICD + GICD_IPRIORITYR + 32 + at, 1));
	for (u64 n = 32; n < 64; n++)
		note(read_at(GUEST_GICD + GICD_IROUTER + 8 * n, 8));
	note(read_at(GUEST_GICD + GICD_PIDR2, 4)), note(read_at(gic_redist() + GICR_PIDR2, 4));
}

static void write_frames(void)
{
	static const u32 pairs[] = { GICD_ISENABLER, GICD_ICENABLER, GICD_ISPENDR, GICD_ICPENDR, GICD_ISACTIVER, GICD_ICACTIVER };
	u64 d = GUEST_GICD, r = gic_redist() + GICR_SGI;

	for (u32 i = 0; i < ARRAY_SIZE(pairs); i++) {
		u32 bits = i & 1 ? 0xf0f0f0f0 : 0xffffffff;

		mmio_write32(d + pairs[i] + 4, bits);
		note(mmio_read32(d + pairs[i] + 4));
		mmio_write32(r + pairs[i], bits);
		note(mmio_read32(r + pairs[i]));
	}
	for (u32 i = 1; i < ARRAY_SIZE(pairs); i += 2) {
		mmio_write32(d + pairs[i] + 4, ~0U);
		mmio_write32(r + pairs[i], ~0U);
	}
	for (u32 n = 32; n < 48; n++) {
		mmio_write8(d + GICD_IPRIORITYR + n, n * 7);
		mmio_write64(d + GICD_IROUTER + 8 * n, n & 1 ? 1 : 0x80000000);
	}
	mmio_write32(d + GICD_ICFGR + 8, 0xa5a5a5a5);
	mmio_write32(d + GICD_IGROUPR + 4, 0x0f0f0f0f);
	note_frames();
}

/* Interrupts: which arrive, in which order. */
static u64 taken[2];

static void on_irq(struct guest_regs *regs)
{
	u32 intid = gic_ack();

	if (intid == GIC_SPURIOUS)
		return;
	if (guest_self()->index == 0)
		note(intid);
	if (intid == PPI_PTIMER)
		timer_set_ctl(TIMER_PHYSICAL, 0);
	if (intid == PPI_VTIMER)
		timer_set_ctl(TIMER_VIRTUAL, 0);
	gic_eoi(intid);
	if (read_sysreg(ICC_CTLR_EL1) & 2)
		gic_dir(intid);
	WRITE_ONCE(taken[guest_self()->index], taken[guest_self()->index] | 1UL << intid);
}

static void wait_taken(u32 vcpu, u64 mask)
{
	while ((READ_ONCE(taken[vcpu]) & mask) != mask)
		__asm__ volatile("yield");
}

static void note_interrupts(void)
{
	/* The most urgent one first, whatever was raised first. */
	for (u32 split = 0; split < 2; split++) {
		gic_split_eoi(split);
		irq_disable();
		taken[0] = 0;
		for (u32 n = 0; n < 16; n++) {
			gic_enable(n);
			gic_priority(n, 0xa0 - n * 8);
			gic_sgi(n, 1);
		}
		note(gic_is_pending(3)), note(gic_is_active(3));
		wfi(); /* does not wait */
		irq_enable();
		wait_taken(0, 0xffff);
		note(gic_is_pending(3)), note(gic_is_active(3));
	}
	gic_split_eoi(false);
	/* To the other vCPU, by its name and by not being this one; and to nobody. */
	for (u32 n = 0; n < 16; n++) {
		if (n & 1)
			gic_sgi(n, 2);
		else
			gic_sgi_others(n);
		gic_sgi(n, 0x8000);
		wait_taken(1, 1UL << n);
	}
	note(taken[1]);
	for (enum guest_timer t = TIMER_VIRTUAL; t <= TIMER_PHYSICAL; t++) {
		taken[0] = 0;
		gic_enable(t ? PPI_PTIMER : PPI_VTIMER);
		timer_set_cval(t, timer_counter(t));
		timer_set_ctl(t, TIMER_ENABLE);
		wait_taken(0, 1UL << (t ? PPI_PTIMER : PPI_VTIMER));
		note(gic_is_pending(t ? PPI_PTIMER : PPI_VTIMER));
	}
}

static u64 ready;

static void guest_look(u64 arg)
{
	guest_irq_handler = on_irq;
	if (arg == 1) {
		gic_init_cpu();
		for (u32 n = 0; n < 16; n++)
			gic_enable(n);
		irq_enable();
		WRITE_ONCE(ready, 1);
		wait_taken(1, 0xffff);
		return;
	}
	note_calls();
	note_registers();
	note_frames();
	write_frames();
	gic_init_distributor();
	gic_init_cpu();
	while (!READ_ONCE(ready))
		__asm__ volatile("yield");
	note_interrupts();
	/* The physical timer, which traps here, for it has an offset. */
	timer_set_cval(TIMER_PHYSICAL, ~0UL);
	timer_set_ctl(TIMER_PHYSICAL, TIMER_ENABLE | TIMER_IMASK);
	note(timer_cval(TIMER_PHYSICAL)), note(timer_ctl(TIMER_PHYSICAL));
	timer_set_cval(TIMER_PHYSICAL, 0);
	note(timer_cval(TIMER_PHYSICAL)), note(timer_ctl(TIMER_PHYSICAL));
	note(timer_counter(TIMER_PHYSICAL) <= timer_counter(TIMER_PHYSICAL));
	/* Stores that an eventfd waits for, and WFE, which does not wait. */
	for (u32 n = 0; n < 5; n++)
		mmio_write32(DOORBELL, n);
	for (u32 n = 0; n < 200; n++)
		__asm__ volatile("wfe");
	note(read_sysreg(daif)), note(read_sysreg(currentel));
}

struct seen {
	u64 notes[NOTES], count, doorbell;
};

static void look(struct seen *seen)
{
	struct vm *vm = vm_create(.main = guest_look, .gic = true, .vcpus = 2);
	struct kvm_arm_counter_offset offset = { .counter_offset = 12345 };
	struct kvm_ioeventfd doorbell = { .fd = CHECK_OK(eventfd(0, 0)), .addr = DOORBELL, .len = 4 };

	CHECK_OK(ioctl(vm->fd, KVM_ARM_SET_COUNTER_OFFSET, &offset));
	CHECK_OK(ioctl(vm->fd, KVM_IOEVENTFD, &doorbell));
	vcpu_start(&vm->vcpus[1]);
	vcpu_done(&vm->vcpus[0]);
	vcpu_join(&vm->vcpus[1]);
	CHECK(read(doorbell.fd, &seen->doorbell, 8) == 8);
	seen->count = VM_GLOBAL(vm, count);
	for (u32 i = 0; i < NOTES; i++)
		seen->notes[i] = VM_GLOBAL(vm, notes)[i];
	close(doorbell.fd);
	vm_destroy(vm);
}

/* In a process of its own, which holds the module no longer when it has ended. */
static struct seen *look_apart(void)
{
	struct seen *seen = mmap(NULL, sizeof(*seen), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t child;
	int status;

	CHECK(seen != MAP_FAILED);
	child = CHECK_OK(fork());
	if (child == 0) {
		look(seen);
		_exit(0);
	}
	CHECK(waitpid(child, &status, 0) == child);
	CHECK_EQ(status, 0);
	return seen;
}

TEST_SECONDS(no_difference, 50)
{
	struct seen *fast, *slow;

	if (ktap_on_kvm() || access("/loft.ko", R_OK))
		SKIP("needs loft's module in /loft.ko");
	fast = look_apart();
	CHECK(load_module("fast=0"));
	slow = look_apart();
	CHECK(load_module(""));
	CHECK(fast->count > 1000 && fast->count <= NOTES);
	EXPECT_EQ(fast->count, slow->count);
	EXPECT_EQ(fast->doorbell, 5);
	EXPECT_EQ(slow->doorbell, 5);
	for (u64 i = 0; i < fast->count; i++)
		if (fast->notes[i] != slow->notes[i])
			FAIL("note %lu: %#lx in the vector, %#lx the slow way", i, fast->notes[i], slow->notes[i]);
}
