// SPDX-License-Identifier: GPL-2.0
/*
 * Guests of loft's and of KVM's on one machine, at the same time and on the same CPU. LOFT_STRESS_SECONDS (default 4) is how
 * long the cases that do everything at once take.
 */
#include <sys/mman.h>
#include <unistd.h>

#include "gic.h"
#include "timer.h"
#include "vm.h"

#define LOFT ktap_device
#define KVM "/dev/kvm"
#define vm_of(device, ...) (sys_open(device), vm_create(__VA_ARGS__))
#define AREA 0x80000000UL
#define AREA_PAGES 64UL
#define PAGE 4096UL
#define MOST_VCPUS 4

static void need_kvm(void)
{
	if (ktap_on_kvm())
		SKIP("this is about another hypervisor beside KVM");
	if (access(KVM, F_OK))
		SKIP("KVM is off here");
}

/* Which of the VMs this is, and of how many vCPUs: the host says so. */
static u64 who, vcpus, stop;
static u64 ready, settled, armed[MOST_VCPUS], ticks[MOST_VCPUS], sent[MOST_VCPUS], received[MOST_VCPUS], rounds[MOST_VCPUS];

/* Puts `seed` and what follows it into the vector registers; looks whether it is still there: the number of the first that differs, or 32. */
void vectors_fill(u64 seed);
u64 vectors_look(u64 seed);
__asm__(".pushsection .text\n"
	".arch armv8.3-a\n"
	".global vectors_fill, vectors_look\n"
	"vectors_fill:\n"
	".irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31\n"
	"	dup	v\\n\\().2d, x0\n"
	"	add	x0, x0, #1\n"
	".endr\n"
	"	ret\n"
	"vectors_look:\n"
	".irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31\n"
	"	mov	x3, #\\n\n"
	"	umov	x1, v\\n\\().d[0]\n"
	"	umov	x2, v\\n\\().d[1]\n"
	"	cmp	x1, x0\n"
	"	ccmp	x2, x0, #0, eq\n"
	"	b.ne	1f\n"
	"	add	x0, x0, #1\n"
	".endr\n"
	"	mov	x3, #32\n"
	"1:	mov	x0, x3\n"
	"	ret\n"
	".popsection\n");

static void on_irq(struct guest_regs *regs)
{
	u64 cpu = guest_self()->index;
	u32 intid = gic_ack();

	if (intid == GIC_SPURIOUS)
		return;
	if (intid == PPI_VTIMER) {
		if (!(timer_ctl(TIMER_VIRTUAL) & TIMER_ISTATUS))
			GUEST_FAIL("a tick before its time", cpu, who);
		timer_set_ctl(TIMER_VIRTUAL, 0);
		WRITE_ONCE(ticks[cpu], ticks[cpu] + 1);
		if (ticks[cpu] > armed[cpu])
			GUEST_FAIL("one tick came twice", ticks[cpu], armed[cpu]);
	} else if (intid < vcpus) {
		/* Its number is its sender's. */
		WRITE_ONCE(received[intid], received[intid] + 1);
		if (received[intid] > sent[intid])
			GUEST_FAIL("an SGI that was not sent", intid, cpu);
	} else {
		GUEST_FAIL("an interrupt from nowhere", intid, who);
	}
	gic_eoi(intid);
}

static void wait_for_what_is_due(u64 cpu)
{
	while (READ_ONCE(ticks[cpu]) != armed[cpu] || READ_ONCE(received[cpu]) != sent[cpu])
		;
	/* The others' are received here. */
	atomic_inc(&settled);
	while (READ_ONCE(settled) != vcpus)
		;
}

/* Computes, and looks all the time whether what it has is its own: memory, registers, ticks, SGIs. */
static void guest_live(u64 cpu)
{
	volatile u64 *mine = (volatile u64 *)AREA;
	u64 id = who << 8 | cpu, random = id * 0x9e3779b97f4a7c15 | 1, seed = id << 32;

	guest_irq_handler = on_irq;
	if (cpu == 0) {
		gic_init_distributor();
		store_release(&ready, 1);
	}
	while (!load_acquire(&ready))
		;
	gic_init_cpu();
	gic_enable(PPI_VTIMER);
	for (u32 i = 0; i < vcpus; i++)
		gic_enable(i);
	write_sysreg(id, tpidr_el0);
	write_sysreg(id, contextidr_el1);
	vectors_fill(seed);
	irq_enable();
	for (u64 round = 1; !READ_ONCE(stop); round++) {
		u64 page = guest_random(&random) % AREA_PAGES;
		volatile u64 *word = mine + page * (PAGE / 8) + cpu;

		if (*word && *word >> 32 != (id << 8 | page))
			GUEST_FAIL("another's word: page, value", page, *word);
		*word = (id << 8 | page) << 32 | (round & 0xffffffff);
		if (READ_ONCE(ticks[cpu]) == armed[cpu]) {
			WRITE_ONCE(armed[cpu], armed[cpu] + 1);
			timer_set_cval(TIMER_VIRTUAL, timer_counter(TIMER_VIRTUAL) + guest_us(random % 700));
			timer_set_ctl(TIMER_VIRTUAL, TIMER_ENABLE);
		}
		if (READ_ONCE(received[cpu]) == sent[cpu]) {
			WRITE_ONCE(sent[cpu], sent[cpu] + 1);
			gic_sgi(cpu, 1 << (cpu + 1) % vcpus);
		}
		switch (random >> 32 & 15) {
		case 0:
			irq_disable();
			if (READ_ONCE(ticks[cpu]) != armed[cpu])
				wfi(); /* the tick ends it */
			irq_enable();
			break;
		case 1:
			GUEST_SYNC(round);
			break;
		case 2:
			GUEST_CHECK(guest_hvc(0x80000000, 0, 0, 0).x0 >= 0x10001);
			break;
		case 3:
			GUEST_CHECK_EQ(mmio_read32(GUEST_GICD + GICD_TYPER) & 0x1f, 3);
			break;
		}
		GUEST_CHECK_EQ(vectors_look(seed), 32);
		GUEST_CHECK_EQ(read_sysreg(tpidr_el0), id);
		GUEST_CHECK_EQ(read_sysreg(contextidr_el1), id);
		WRITE_ONCE(rounds[cpu], round);
	}
	wait_for_what_is_due(cpu);
	irq_disable();
}

static bool pinned;

static void *live(void *arg)
{
	if (pinned)
		pin_to_cpu(0);
	while (vcpu_next(arg).command != GUEST_CMD_DONE)
		;
	return NULL;
}

static struct vm *vm_alive(const char *device, u64 n)
{
	struct vm *vm = vm_of(device, .main = guest_live, .vcpus = vcpus, .gic = true);

	VM_GLOBAL(vm, who) = n + 1;
	VM_GLOBAL(vm, vcpus) = vcpus;
	CHECK_OK(vm_slot(vm, 1, 0, AREA, AREA_PAGES * PAGE, host_alloc(AREA_PAGES * PAGE, PAGE)));
	for (u32 i = 0; i < vcpus; i++)
		CHECK_EQ(pthread_create(&vm->vcpus[i].thread, NULL, live, &vm->vcpus[i]), 0);
	return vm;
}

static void guest_greet(u64 arg)
{
	GUEST_SYNC(who);
}

/* `n` VMs of each live for a while, and others of KVM's come and go, so that it hands out VMIDs. */
static void live_together(u64 n)
{
	u64 seconds = getenv("LOFT_STRESS_SECONDS") ? strtoul(getenv("LOFT_STRESS_SECONDS"), NULL, 0) : 4, guests = 0, least, end;
	struct vm *vms[4];

	need_kvm();
	alarm(seconds + 56);
	for (u64 i = 0; i < 2 * n; i++)
		vms[i] = vm_alive(i % 2 ? KVM : LOFT, i);
	for (end = now_us() + seconds * 1000000; now_us() < end; guests++) {
		struct vm *vm = vm_of(KVM, .main = guest_greet);

		VM_GLOBAL(vm, who) = guests;
		vcpu_sync(&vm->vcpus[0], guests);
		vm_destroy(vm);
	}
	ktap_note("%lu guests of KVM's came and went", guests);
	for (u64 i = 0; i < 2 * n; i++) {
		least = ~0UL;
		VM_GLOBAL(vms[i], stop) = 1;
		for (u32 cpu = 0; cpu < vcpus; cpu++) {
			vcpu_join(&vms[i]->vcpus[cpu]);
			CHECK_EQ(VM_GLOBAL(vms[i], ticks[cpu]), VM_GLOBAL(vms[i], armed[cpu]));
			CHECK_EQ(VM_GLOBAL(vms[i], received[cpu]), VM_GLOBAL(vms[i], sent[cpu]));
			if (VM_GLOBAL(vms[i], rounds[cpu]) < least)
				least = VM_GLOBAL(vms[i], rounds[cpu]);
		}
		ktap_note("%s: at least %lu rounds, %lu ticks", i % 2 ? "KVM" : "loft", least, VM_GLOBAL(vms[i], ticks[0]));
		CHECK(least > 10);
	}
}

TEST_SECONDS(on_one_cpu, 60)
{
	pinned = true;
	vcpus = 1;
	live_together(2);
}

TEST_SECONDS(roaming, 60)
{
	vcpus = MOST_VCPUS;
	live_together(1);
}

/* Has its tick in its handler, not ended, when it is left for good. */
static void on_tick_unended(struct guest_regs *regs)
{
	GUEST_CHECK_EQ(gic_ack(), PPI_VTIMER);
	GUEST_SYNC(2);
}

static void start_timer(u64 us)
{
	timer_set_cval(TIMER_VIRTUAL, timer_counter(TIMER_VIRTUAL) + guest_us(us));
	timer_set_ctl(TIMER_VIRTUAL, TIMER_ENABLE);
}

static void guest_tick_unended(u64 arg)
{
	guest_irq_handler = on_tick_unended;
	gic_init_distributor();
	gic_init_cpu();
	gic_enable(PPI_VTIMER);
	start_timer(10);
	irq_enable();
	for (;;)
		;
}

/* Does not come to wait, so that only the CPU's own timer can interrupt it. Tells how late that was, in ns. */
static void guest_tick(u64 arg)
{
	guest_irq_handler = on_irq;
	gic_init_distributor();
	gic_init_cpu();
	gic_enable(PPI_VTIMER);
	irq_enable();
	for (u64 i = 1;; i++) {
		u64 due;

		WRITE_ONCE(armed[0], i);
		start_timer(100);
		due = timer_get_cval(TIMER_VIRTUAL);
		while (READ_ONCE(ticks[0]) != i)
			;
		GUEST_SYNC2(3, (timer_counter(TIMER_VIRTUAL) - due) * 1000000 / guest_us(1000000));
	}
}

static bool comes_soon(struct vm *vm)
{
	return vcpu_sync(&vm->vcpus[0], 3) < 400;
}

/*
 * A timer's interrupt that is active at the CPU's interrupt controller is not signalled again: a guest would get its tick when
 * the host has a tick of its own, every 4 ms.
 */
static void ticks_after(const char *first, const char *second)
{
	struct vm *vm, *other;
	u64 soon = 0, usual = 0;

	need_kvm();
	pin_to_cpu(0);
	other = vm_of(second, .main = guest_tick, .gic = true);
	for (u64 i = 0; i < 20; i++)
		usual += comes_soon(other);
	if (usual < 10)
		SKIP("ticks are late here by themselves: %lu of 20 came within 400 us", usual);
	for (u64 i = 0; i < 20; i++) {
		vm = vm_of(first, .main = guest_tick_unended, .gic = true);
		vcpu_sync(&vm->vcpus[0], 2);
		soon += comes_soon(other);
		vm_destroy(vm);
	}
	ktap_note("%lu of 20 ticks came within 400 us, alone %lu", soon, usual);
	CHECK(soon >= 3);
}

TEST(ticks_after_an_unended_one_of_kvm)
{
	ticks_after(KVM, LOFT);
}

TEST(ticks_after_an_unended_one_of_loft)
{
	ticks_after(LOFT, KVM);
}

/* Is left with an SGI in its list registers, which it has masked. */
static void guest_leave_pending(u64 arg)
{
	gic_init_distributor();
	gic_init_cpu();
	for (u32 i = 0; i < 8; i++) {
		gic_enable(i);
		gic_sgi(i, 1);
	}
	GUEST_SYNC(1);
	GUEST_SYNC(2);
}

static void on_foreign(struct guest_regs *regs)
{
	GUEST_FAIL("another's interrupt", gic_ack(), 0);
}

static void guest_expect_none(u64 arg)
{
	guest_irq_handler = on_foreign;
	gic_init_distributor();
	gic_init_cpu();
	for (u32 i = 0; i < 8; i++)
		gic_enable(i);
	irq_enable();
	for (u64 i = 0; i < 1000; i++) {
		GUEST_CHECK(guest_hvc(0x80000000, 0, 0, 0).x0 >= 0x10001);
		if (i % 100 == 0)
			GUEST_SYNC(i);
	}
}

static void none_after(const char *first, const char *second)
{
	struct vm *vm, *other;

	need_kvm();
	pin_to_cpu(0);
	vm = vm_of(first, .main = guest_leave_pending, .gic = true);
	other = vm_of(second, .main = guest_expect_none, .gic = true);
	vcpu_sync(&vm->vcpus[0], 1);
	for (u64 i = 0; i < 10; i++) {
		vcpu_sync(&other->vcpus[0], i * 100);
		if (i == 0)
			vcpu_sync(&vm->vcpus[0], 2);
	}
	vcpu_done(&other->vcpus[0]);
}

TEST(interrupts_that_loft_has_left)
{
	none_after(LOFT, KVM);
}

TEST(interrupts_that_kvm_has_left)
{
	none_after(KVM, LOFT);
}

#define SHARED (AREA + 0x10000000)

/* Reads pages that are nobody's yet, and has others of its own where the other VM has those. */
static void guest_look(u64 arg)
{
	for (u64 i = 0; i < AREA_PAGES; i++) {
		*(volatile u64 *)(AREA + i * PAGE) = ~0UL;
		GUEST_CHECK_EQ(*(volatile u64 *)(SHARED + i * PAGE), 0);
	}
	GUEST_SYNC(1);
	for (u64 i = 0; i < AREA_PAGES; i++) {
		GUEST_CHECK_EQ(*(volatile u64 *)(AREA + i * PAGE), ~0UL);
		GUEST_CHECK_EQ(*(volatile u64 *)(SHARED + i * PAGE), i << 8 | 1);
	}
}

/* Writes them. Each has to be taken from the other VM first. */
static void guest_write(u64 arg)
{
	for (u64 i = 0; i < AREA_PAGES; i++) {
		*(volatile u64 *)(AREA + i * PAGE) = i << 8 | 1;
		GUEST_CHECK_EQ(who, 1);
	}
}

/*
 * A page is taken from one VM while a fault of the other's is served, by that one's thread: the TLB maintenance of the one
 * comes while the other is loaded, which must not go on with the one's translation.
 */
static void taken_while_loaded(const char *reader, const char *writer)
{
	const u64 size = AREA_PAGES * PAGE;
	u8 *memory = host_alloc(size, 0x200000);
	struct vm *reads, *writes;

	need_kvm();
	pin_to_cpu(0);
	madvise(memory, size, MADV_NOHUGEPAGE);
	reads = vm_of(reader, .main = guest_look);
	writes = vm_of(writer, .main = guest_write);
	VM_GLOBAL(writes, who) = 1;
	CHECK_OK(vm_slot(reads, 1, 0, AREA, size, host_alloc(size, PAGE)));
	CHECK_OK(vm_slot(reads, 2, 0, SHARED, size, memory));
	CHECK_OK(vm_slot(writes, 1, 0, AREA, size, memory));
	vcpu_sync(&reads->vcpus[0], 1);
	vcpu_done(&writes->vcpus[0]);
	for (u64 i = 0; i < AREA_PAGES; i++)
		CHECK_EQ(*(u64 *)(memory + i * PAGE), i << 8 | 1);
	vcpu_done(&reads->vcpus[0]);
}

TEST(kvm_flushes_while_loft_is_loaded)
{
	taken_while_loaded(KVM, LOFT);
}

TEST(loft_flushes_while_kvm_is_loaded)
{
	taken_while_loaded(LOFT, KVM);
}

/* loft's guests share a VMID where KVM is on. */
static void guest_be_itself(u64 arg)
{
	for (u64 i = 0;; i++) {
		GUEST_CHECK_EQ(*(volatile u64 *)(AREA + i % AREA_PAGES * PAGE), 0);
		GUEST_SYNC(who);
	}
}

TEST(several_of_lofts)
{
	struct vm *vms[3];

	need_kvm();
	pin_to_cpu(0);
	for (u64 i = 0; i < 3; i++) {
		vms[i] = vm_of(i == 1 ? KVM : LOFT, .main = guest_be_itself);
		VM_GLOBAL(vms[i], who) = i;
		CHECK_OK(vm_slot(vms[i], 1, 0, AREA, AREA_PAGES * PAGE, host_alloc(AREA_PAGES * PAGE, PAGE)));
	}
	for (u64 i = 0; i < 300; i++)
		vcpu_sync(&vms[i % 3]->vcpus[0], i % 3);
}
