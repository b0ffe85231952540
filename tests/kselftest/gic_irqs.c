// SPDX-License-Identifier: GPL-2.0
/* Interrupts through the in-kernel GICv3, from every source to the handler and to their end. */
#include "gic.h"
#include "timer.h"
#include "vm.h"

/* What the plain handler saw, per vCPU and interrupt. */
static u64 count[4][128], order[256], order_n, spurious;

static void on_irq(struct guest_regs *regs)
{
	u32 intid = gic_ack();

	if (intid >= 128) {
		spurious++;
		return;
	}
	if (order_n < 256)
		order[order_n++] = intid;
	gic_eoi(intid);
	WRITE_ONCE(count[guest_self()->index][intid], count[guest_self()->index][intid] + 1);
}

static void set_up(void)
{
	guest_irq_handler = on_irq;
	gic_init_distributor();
	gic_init_cpu();
}

static void wait_count(u64 cpu, u32 intid, u64 n)
{
	while (READ_ONCE(count[cpu][intid]) < n)
		;
}

/* Long enough for anything that should not come to have come. */
static void settle(void)
{
	guest_delay_us(300);
	isb();
}

#define RUN(name, guest, ...)                                                     \
	TEST(name)                                                                \
	{                                                                         \
		struct vm *vm = vm_create(.main = guest, .gic = true, ##__VA_ARGS__); \
		vm_run_all(vm);                                                   \
	}

static void guest_software(u64 arg)
{
	set_up();
	irq_enable();
	/* SPIs, edge and level, made pending by their register: each comes once. */
	for (u32 intid = 32; intid < 128; intid += 5) {
		gic_enable(intid);
		gic_edge(intid, intid & 1);
		gic_set_pending(intid, true);
		wait_count(0, intid, 1);
		settle();
		GUEST_CHECK_EQ(count[0][intid], 1);
		GUEST_CHECK(!gic_is_pending(intid));
		GUEST_CHECK(!gic_is_active(intid));
	}
	/* A PPI, and SGIs to oneself. */
	gic_enable(20);
	gic_set_pending(20, true);
	wait_count(0, 20, 1);
	for (u32 sgi = 0; sgi < 16; sgi++) {
		gic_enable(sgi);
		gic_sgi(sgi, 1);
		wait_count(0, sgi, 1);
		gic_set_pending(sgi, true); /* an SGI may be made pending this way too */
		wait_count(0, sgi, 2);
	}
	settle();
	for (u32 sgi = 0; sgi < 16; sgi++)
		GUEST_CHECK_EQ(count[0][sgi], 2);
}
RUN(made_by_software, guest_software)

static bool on_kvm;

static void guest_masks(u64 arg)
{
	set_up();
	irq_enable();
	gic_edge(SPI(8), true);
	/* Each thing that keeps an interrupt back, and its removal. */
	gic_disable(SPI(8));
	gic_set_pending(SPI(8), true);
	settle();
	GUEST_CHECK(gic_is_pending(SPI(8)));
	GUEST_CHECK_EQ(count[0][SPI(8)], 0);
	gic_enable(SPI(8));
	wait_count(0, SPI(8), 1);

	write_sysreg(0xa0, ICC_PMR_EL1); /* its priority, so not higher than the mask */
	isb();
	gic_set_pending(SPI(8), true);
	settle();
	GUEST_CHECK_EQ(count[0][SPI(8)], 1);
	write_sysreg(0xa8, ICC_PMR_EL1);
	isb();
	wait_count(0, SPI(8), 2);
	write_sysreg(0xff, ICC_PMR_EL1);

	gic_set_pending(SPI(8), true);
	wait_count(0, SPI(8), 3);
	mmio_write32(GUEST_GICD + GICD_CTLR, GICD_CTLR_ARE);
	gic_set_pending(SPI(8), true);
	settle();
	GUEST_CHECK_EQ(count[0][SPI(8)], 3);
	mmio_write32(GUEST_GICD + GICD_CTLR, GICD_CTLR_ARE | GICD_CTLR_GRP1A);
	if (on_kvm)
		gic_set_pending(SPI(8), true); /* KVM forgets to look at what became pending meanwhile */
	wait_count(0, SPI(8), 4);

	irq_disable();
	gic_set_pending(SPI(8), true);
	settle();
	GUEST_CHECK_EQ(count[0][SPI(8)], 4);
	GUEST_CHECK(read_sysreg(isr_el1) & 1 << 7);
	GUEST_CHECK_EQ(read_sysreg(ICC_HPPIR1_EL1), SPI(8));
	gic_set_pending(SPI(8), false); /* taken back */
	settle();
	irq_enable();
	settle();
	GUEST_CHECK_EQ(count[0][SPI(8)], 4);

	/* Active: not again until it is deactivated. */
	gic_set_active(SPI(8), true);
	gic_set_pending(SPI(8), true);
	settle();
	GUEST_CHECK_EQ(count[0][SPI(8)], 4);
	gic_set_active(SPI(8), false);
	wait_count(0, SPI(8), 5);
}

TEST(what_keeps_it_back)
{
	struct vm *vm = vm_create(.main = guest_masks, .gic = true);

	VM_GLOBAL(vm, on_kvm) = ktap_on_kvm();
	vcpu_done(&vm->vcpus[0]);
}

static void guest_group_enable(u64 arg)
{
	set_up();
	irq_enable();
	gic_edge(SPI(8), true);
	gic_enable(SPI(8));
	write_sysreg(0, ICC_IGRPEN1_EL1);
	isb();
	gic_set_pending(SPI(8), true);
	settle();
	GUEST_CHECK_EQ(count[0][SPI(8)], 0);
	write_sysreg(1, ICC_IGRPEN1_EL1);
	isb();
	wait_count(0, SPI(8), 1);
}
RUN(group_enable, guest_group_enable)

static void guest_priority_order(u64 arg)
{
	set_up();
	for (u32 i = 0; i < 64; i++) {
		gic_edge(SPI(i), true);
		/* A permutation of 32 priorities, two interrupts each: of equals the lower number goes first. */
		gic_priority(SPI(i), (i * 11 % 32) << 3);
		gic_enable(SPI(i));
	}
	write_sysreg(0xff, ICC_PMR_EL1);
	/* Far more than there are list registers, at once. */
	mmio_write32(GUEST_GICD + GICD_ISPENDR + 4, ~0u);
	mmio_write32(GUEST_GICD + GICD_ISPENDR + 8, ~0u);
	irq_enable();
	while (READ_ONCE(order_n) < 62)
		;
	settle();
	/* Priority 0xf8 is masked by no PMR that can be written here or is: 31 or 32 priorities are seen. */
	GUEST_CHECK(order_n == 64 || order_n == 62);
	for (u32 i = 0; i + 1 < order_n; i++) {
		u32 a = order[i] - 32, b = order[i + 1] - 32;
		u32 pa = a * 11 % 32, pb = b * 11 % 32;

		if (pa > pb || (pa == pb && a > b))
			GUEST_FAIL("out of order: first, second", order[i], order[i + 1]);
	}
	for (u32 i = 0; i < 64; i++)
		GUEST_CHECK(count[0][SPI(i)] <= 1);
}
RUN(more_pending_than_list_registers, guest_priority_order)

/* Nesting: a handler is interrupted by what is more urgent, and only by that. The vectors keep ELR and SPSR on the stack. */
static u64 depth, deepest, nested_seen[8];

/* A chain of seven, each started by the one below. */
static void on_chain(struct guest_regs *regs)
{
	u32 intid = gic_ack(), level = intid - SPI(0);

	if (intid == GIC_SPURIOUS)
		return;
	GUEST_CHECK_EQ(read_sysreg(ICC_RPR_EL1), 0xe0 - level * 0x20);
	GUEST_CHECK(gic_is_active(intid));
	nested_seen[level]++;
	if (++depth > deepest)
		deepest = depth;
	if (level < 6) {
		gic_set_pending(SPI(level + 1), true);
		gic_set_pending(SPI(7), true); /* the least urgent of all: after everything */
		irq_enable();
		while (!READ_ONCE(nested_seen[level + 1]))
			;
		GUEST_CHECK_EQ(count[0][SPI(7)], 0);
		irq_disable();
	}
	depth--;
	gic_eoi(intid);
}

static void on_chain_or_last(struct guest_regs *regs)
{
	if (read_sysreg(ICC_HPPIR1_EL1) == SPI(7))
		on_irq(regs);
	else
		on_chain(regs);
}

static void guest_chain(u64 arg)
{
	set_up();
	guest_irq_handler = on_chain_or_last;
	for (u32 i = 0; i < 8; i++) {
		gic_edge(SPI(i), true);
		gic_priority(SPI(i), i == 7 ? 0xf0 : 0xe0 - i * 0x20);
		gic_enable(SPI(i));
	}
	irq_enable();
	gic_set_pending(SPI(0), true);
	wait_count(0, SPI(7), 1);
	GUEST_CHECK_EQ(deepest, 7);
	for (u32 i = 0; i < 7; i++)
		GUEST_CHECK_EQ(nested_seen[i], 1);
	irq_disable();
	GUEST_CHECK_EQ(read_sysreg(ICC_RPR_EL1), 0xff);
	GUEST_CHECK_EQ(read_sysreg(ICC_AP1R0_EL1), 0);
}
RUN(nesting, guest_chain)

/* EOImode 1: the priority drops with EOIR, the interrupt stays active until DIR. */
static u64 split_count;

static void on_split(struct guest_regs *regs)
{
	u32 intid = gic_ack();

	if (intid == GIC_SPURIOUS)
		return;
	gic_eoi(intid);
	GUEST_CHECK_EQ(read_sysreg(ICC_RPR_EL1), 0xff);
	WRITE_ONCE(split_count, split_count + 1);
}

static void guest_split(u64 arg)
{
	set_up();
	guest_irq_handler = on_split;
	gic_split_eoi(true);
	gic_edge(SPI(3), true);
	gic_enable(SPI(3));
	irq_enable();
	gic_set_pending(SPI(3), true);
	while (READ_ONCE(split_count) < 1)
		;
	GUEST_CHECK(gic_is_active(SPI(3)));
	gic_set_pending(SPI(3), true); /* pending and active: waits */
	settle();
	GUEST_CHECK_EQ(split_count, 1);
	GUEST_CHECK(gic_is_pending(SPI(3)));
	gic_dir(SPI(3));
	while (READ_ONCE(split_count) < 2)
		;
	gic_dir(SPI(3));
	GUEST_CHECK(!gic_is_active(SPI(3)));
	GUEST_CHECK(!gic_is_pending(SPI(3)));
	/* The same for an SGI. */
	gic_enable(5);
	gic_sgi(5, 1);
	while (READ_ONCE(split_count) < 3)
		;
	GUEST_CHECK(gic_is_active(5));
	gic_sgi(5, 1);
	settle();
	GUEST_CHECK_EQ(split_count, 3);
	gic_dir(5);
	while (READ_ONCE(split_count) < 4)
		;
	gic_dir(5);
	GUEST_CHECK(!gic_is_active(5));
	/* Many of them active at once, more than list registers, deactivated in another order. */
	for (u32 i = 10; i < 50; i++) {
		gic_edge(SPI(i), true);
		gic_enable(SPI(i));
		gic_set_pending(SPI(i), true);
	}
	while (READ_ONCE(split_count) < 44)
		;
	for (u32 i = 10; i < 50; i++)
		GUEST_CHECK(gic_is_active(SPI(i)));
	for (u32 i = 0; i < 40; i++)
		gic_dir(SPI(10 + i * 7 % 40));
	for (u32 i = 10; i < 50; i++)
		GUEST_CHECK(!gic_is_active(SPI(i)));
}
RUN(split_end_of_interrupt, guest_split)

/* Deactivation of an SPI by another vCPU than the one that took it. */
static u64 taken, other_done;

static void guest_foreign_dir(u64 cpu)
{
	if (cpu == 0) {
		set_up();
		guest_irq_handler = on_split;
		gic_split_eoi(true);
		gic_edge(SPI(3), true);
		gic_enable(SPI(3));
		irq_enable();
		gic_set_pending(SPI(3), true);
		while (READ_ONCE(split_count) < 1)
			;
		store_release(&taken, 1);
		while (!load_acquire(&other_done))
			;
		GUEST_CHECK(!gic_is_active(SPI(3)));
		gic_set_pending(SPI(3), true);
		while (READ_ONCE(split_count) < 2)
			;
	} else {
		while (!load_acquire(&taken))
			;
		write_sysreg(1, ICC_SRE_EL1);
		gic_split_eoi(true);
		gic_dir(SPI(3));
		store_release(&other_done, 1);
	}
}
RUN(deactivated_elsewhere, guest_foreign_dir, .vcpus = 2)

/* Lines from the VMM, edge-sensitive: each rise counts once, however long the line stays up. */
static void guest_lines(u64 arg)
{
	set_up();
	irq_enable();
	gic_edge(SPI(1), true);
	gic_enable(SPI(1));
	for (u64 i = 1; i <= 3; i++) {
		GUEST_SYNC(i);
		wait_count(0, SPI(1), i < 3 ? i : 2);
		settle();
		GUEST_CHECK_EQ(count[0][SPI(1)], i < 3 ? i : 2);
	}
}

TEST(lines_edge)
{
	struct vm *vm = vm_create(.main = guest_lines, .gic = true);
	struct vcpu *vcpu = &vm->vcpus[0];

	vcpu_sync(vcpu, 1);
	vm_irq(vm, SPI(1), 1);
	vm_irq(vm, SPI(1), 1);
	vcpu_sync(vcpu, 2);
	vm_irq(vm, SPI(1), 1); /* up already: no edge */
	vm_irq(vm, SPI(1), 0);
	vm_irq(vm, SPI(1), 1);
	vcpu_sync(vcpu, 3);
	vm_irq(vm, SPI(1), 0); /* nor is a fall one */
	vcpu_done(vcpu);
}

/* A level that stays up comes again after each end, until the device lowers it (here: on the third). */
static u64 level_count;

static void on_level(struct guest_regs *regs)
{
	u32 intid = gic_ack();

	if (intid == GIC_SPURIOUS)
		return;
	level_count++;
	GUEST_SYNC2(2, level_count);
	gic_eoi(intid);
}

static void guest_level(u64 intid)
{
	set_up();
	guest_irq_handler = on_level;
	gic_edge(intid, false);
	gic_enable(intid);
	irq_enable();
	GUEST_SYNC(1);
	while (READ_ONCE(level_count) < 3)
		;
	settle();
	GUEST_CHECK_EQ(level_count, 3);
	GUEST_CHECK(!gic_is_pending(intid));
	/* Up and down while masked: gone. */
	irq_disable();
	GUEST_SYNC(3);
	settle();
	irq_enable();
	settle();
	GUEST_CHECK_EQ(level_count, 3);
	/* Pending shows the line, and clearing the latch does not lower it. */
	irq_disable();
	GUEST_SYNC(4);
	GUEST_CHECK(gic_is_pending(intid));
	gic_set_pending(intid, false);
	GUEST_CHECK(gic_is_pending(intid));
	GUEST_SYNC(5);
	GUEST_CHECK(!gic_is_pending(intid));
}

static void raise_line(struct vcpu *vcpu, u32 intid, int level)
{
	if (intid < 32)
		vm_ppi(vcpu, intid, level);
	else
		vm_irq(vcpu->vm, intid, level);
}

static void level_line(u32 intid)
{
	struct vm *vm = vm_create(.main = guest_level, .gic = true);
	struct vcpu *vcpu = &vm->vcpus[0];

	((struct guest_cpu *)vm_host(vm, (u64)vcpu->cpu))->arg = intid;
	vcpu_sync(vcpu, 1);
	raise_line(vcpu, intid, 1);
	for (u64 i = 1; i <= 3; i++) {
		CHECK_EQ(vcpu_sync(vcpu, 2), i);
		if (i == 3)
			raise_line(vcpu, intid, 0);
	}
	vcpu_sync(vcpu, 3);
	raise_line(vcpu, intid, 1);
	raise_line(vcpu, intid, 0);
	vcpu_sync(vcpu, 4);
	raise_line(vcpu, intid, 1);
	vcpu_sync(vcpu, 5);
	raise_line(vcpu, intid, 0);
	vcpu_done(vcpu);
}

TEST(lines_level_spi)
{
	level_line(SPI(2));
}

TEST(lines_level_ppi)
{
	level_line(16);
}

/* Interrupts wake a vCPU that sleeps, from each kind of source. */
static void guest_sleeper(u64 arg)
{
	set_up();
	for (u32 i = 1; i < 8; i++) {
		gic_edge(SPI(i), true);
		gic_enable(SPI(i));
	}
	for (u32 i = 1; i < 8; i++) {
		GUEST_SYNC(i);
		while (!READ_ONCE(count[0][SPI(i)])) {
			wfi();
			irq_enable();
			isb();
			irq_disable();
		}
	}
}

static void *raise_later(void *arg)
{
	struct vm *vm = arg;

	for (u32 i = 1; i < 8; i++) {
		sleep_us(20000);
		vm_irq(vm, SPI(i), 1);
	}
	return NULL;
}

TEST(wakes_a_sleeper)
{
	struct vm *vm = vm_create(.main = guest_sleeper, .gic = true);
	pthread_t thread;

	vcpu_sync(&vm->vcpus[0], 1);
	CHECK(pthread_create(&thread, NULL, raise_later, vm) == 0);
	for (u32 i = 2; i < 8; i++)
		vcpu_sync(&vm->vcpus[0], i);
	vcpu_done(&vm->vcpus[0]);
}

/* Routing: each SPI to each of four vCPUs, changed while they run. */
static u64 ready, over;

static void receiver(void)
{
	gic_init_cpu();
	irq_enable();
	atomic_inc(&ready);
	while (!load_acquire(&over))
		;
	irq_disable();
}

static void guest_routes(u64 cpu)
{
	if (cpu) {
		while (!load_acquire(&ready))
			;
		receiver();
		return;
	}
	set_up();
	irq_enable();
	atomic_inc(&ready);
	while (load_acquire(&ready) < 4)
		;
	for (u32 i = 0; i < 64; i++) {
		u32 intid = SPI(i % 8), target = i * 7 % 4;
		u64 before = READ_ONCE(count[target][intid]), total = 0, after = 0;

		for (u32 c = 0; c < 4; c++)
			total += READ_ONCE(count[c][intid]);
		gic_edge(intid, true);
		gic_enable(intid);
		gic_route(intid, target);
		gic_set_pending(intid, true);
		wait_count(target, intid, before + 1);
		for (u32 c = 0; c < 4; c++)
			after += READ_ONCE(count[c][intid]);
		GUEST_CHECK_EQ(after, total + 1);
	}
	/* To a vCPU that does not exist: nobody gets it. */
	gic_route(SPI(9), 0x77);
	gic_edge(SPI(9), true);
	gic_enable(SPI(9));
	gic_set_pending(SPI(9), true);
	settle();
	GUEST_CHECK(gic_is_pending(SPI(9)));
	GUEST_CHECK_EQ(count[0][SPI(9)], 0);
	gic_set_pending(SPI(9), false);
	gic_route(SPI(9), 2);
	gic_set_pending(SPI(9), true);
	wait_count(2, SPI(9), 1);
	store_release(&over, 1);
}
RUN(routing, guest_routes, .vcpus = 4)

/* Four vCPUs send SGIs to each other without end; none is lost while its number is not pending already. */
#define STORM 150
static u64 storm[4][4]; /* received: [receiver][sender] */

static void on_storm(struct guest_regs *regs)
{
	u32 intid = gic_ack();

	if (intid == GIC_SPURIOUS)
		return;
	gic_eoi(intid);
	/* The SGI's number says who sent it. */
	atomic_inc(&storm[guest_self()->index][intid]);
}

static void guest_storm(u64 cpu)
{
	if (cpu == 0) {
		gic_init_distributor();
		guest_irq_handler = on_storm;
		store_release(&ready, 1);
	}
	while (!load_acquire(&ready))
		;
	gic_init_cpu();
	for (u32 i = 0; i < 4; i++)
		gic_enable(i);
	irq_enable();
	atomic_inc(&ready);
	while (load_acquire(&ready) < 5)
		;
	for (u64 i = 1; i <= STORM; i++) {
		u32 to = (cpu + 1 + i % 3) % 4;
		u64 before = load_acquire(&storm[to][cpu]);

		gic_sgi(cpu, 1 << to);
		while (load_acquire(&storm[to][cpu]) == before)
			if (i % 5 == 0)
				wfi(); /* others keep sending; the last ones are woken at the end */
	}
	atomic_inc(&over);
	while (load_acquire(&over) < 4) {
		/* Those that sleep may wait for an SGI that has come: everyone who is done wakes all. */
		gic_sgi_others(cpu);
		guest_delay_us(200);
	}
}
RUN(sgi_storm, guest_storm, .vcpus = 4)

/* To all others, and not to oneself. */
static void guest_broadcast(u64 cpu)
{
	if (cpu) {
		while (!load_acquire(&ready))
			;
		gic_init_cpu();
		gic_enable(7);
		irq_enable();
		atomic_inc(&ready);
		while (!load_acquire(&over))
			wfi();
		irq_disable();
		return;
	}
	set_up();
	gic_enable(7);
	irq_enable();
	store_release(&ready, 1);
	while (load_acquire(&ready) < 4)
		;
	for (u64 i = 1; i <= 30; i++) {
		if (i == 30)
			store_release(&over, 1);
		gic_sgi_others(7);
		for (u32 c = 1; c < 4; c++)
			wait_count(c, 7, i);
	}
	GUEST_CHECK_EQ(count[0][7], 0);
	/* An SGI to nobody, and to a cluster that does not exist. */
	write_sysreg(7UL << 24, ICC_SGI1R_EL1);
	write_sysreg(7UL << 24 | 5UL << 16 | 0xf, ICC_SGI1R_EL1);
	settle();
	GUEST_CHECK_EQ(count[0][7], 0);
}
RUN(sgi_broadcast, guest_broadcast, .vcpus = 4)

/* Group 0 interrupts are FIQs, with acknowledge and end registers of their own. */
static u64 fiqs;

static void on_fiq(struct guest_regs *regs)
{
	u32 intid = read_sysreg(ICC_IAR0_EL1);

	if (intid == GIC_SPURIOUS)
		return;
	GUEST_CHECK_EQ(intid, SPI(6));
	write_sysreg(intid, ICC_EOIR0_EL1);
	isb();
	fiqs++;
}

static void guest_group0(u64 arg)
{
	set_up();
	guest_fiq_handler = on_fiq;
	mmio_write32(GUEST_GICD + GICD_CTLR, GICD_CTLR_ARE | GICD_CTLR_GRP1A | 1);
	write_sysreg(1, ICC_IGRPEN0_EL1);
	gic_edge(SPI(6), true);
	gic_group(SPI(6), 0);
	gic_enable(SPI(6));
	__asm__ volatile("msr daifclr, #3");
	gic_set_pending(SPI(6), true);
	while (!READ_ONCE(fiqs))
		;
	settle();
	GUEST_CHECK_EQ(fiqs, 1);
	GUEST_CHECK_EQ(order_n, 0);
	/* Back in group 1 it is an IRQ. */
	gic_group(SPI(6), 1);
	gic_set_pending(SPI(6), true);
	wait_count(0, SPI(6), 1);
	GUEST_CHECK_EQ(fiqs, 1);
}
RUN(group_0_is_fiq, guest_group0)

/* State is enabled, disabled and made active on a vCPU that runs elsewhere. */
static void guest_remote(u64 cpu)
{
	u64 other = GUEST_GICR + GUEST_GICR_STRIDE;

	if (cpu) {
		while (!load_acquire(&ready))
			;
		receiver();
		return;
	}
	set_up();
	store_release(&ready, 1);
	while (load_acquire(&ready) < 2)
		;
	for (u64 i = 1; i <= 20; i++) {
		u64 before = READ_ONCE(count[1][20]);

		mmio_write32(other + GICR_ICENABLER0, 1 << 20);
		mmio_write32(other + GICR_ISPENDR0, 1 << 20);
		guest_delay_us(20);
		GUEST_CHECK_EQ(READ_ONCE(count[1][20]), before);
		mmio_write32(other + GICR_ISENABLER0, 1 << 20);
		wait_count(1, 20, before + 1);
		/* Read while it may be in the other's list registers. */
		while (mmio_read32(other + GICR_ISACTIVER0) & 1 << 20)
			;
		GUEST_CHECK_EQ(mmio_read32(other + GICR_ISPENDR0) & 1 << 20, 0);
	}
	store_release(&over, 1);
}
RUN(remote_redistributor, guest_remote, .vcpus = 2)
