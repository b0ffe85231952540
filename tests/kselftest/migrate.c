// SPDX-License-Identifier: GPL-2.0
/* A guest that is stopped, and goes on in another VM as if nothing had been. */
#include "gic.h"
#include "pauth.h"
#include "timer.h"
#include "vm.h"

#define KEYS 0x1234567812340000UL

static u64 signatures[5], has_keys;

static void guest_moved(u64 arg)
{
	u64 now[5], due, d8;

	if (has_keys) {
		ALL_KEYS(WRITE_KEY, KEYS);
		pauth_enable();
		SIGN(signatures);
	}
	write_sysreg(0x1111, tpidr_el0);
	write_sysreg(0x2222, tpidrro_el0);
	write_sysreg(0x3333, contextidr_el1);
	write_sysreg(0x4444000, far_el1);
	write_sysreg(0x5555000, dbgbvr0_el1);
	write_sysreg(2, cntkctl_el1);
	__asm__ volatile("fmov d8, %0" : : "r"(0x6666UL));
	/* Older than the VM that it will be moved to. */
	guest_delay_us(500000);
	due = timer_counter(TIMER_VIRTUAL) + guest_us(300000);
	timer_set_cval(TIMER_VIRTUAL, due);
	timer_set_ctl(TIMER_VIRTUAL, TIMER_ENABLE | TIMER_IMASK);
	GUEST_SYNC(1);
	__asm__ volatile("fmov %0, d8" : "=r"(d8));
	GUEST_CHECK_EQ(d8, 0x6666);
	if (has_keys) {
		ALL_KEYS(CHECK_KEY, KEYS);
		SIGN(now);
		for (u32 k = 0; k < 5; k++)
			GUEST_CHECK_EQ(now[k], signatures[k]);
	}
	GUEST_CHECK_EQ(read_sysreg(tpidr_el0), 0x1111);
	GUEST_CHECK_EQ(read_sysreg(tpidrro_el0), 0x2222);
	GUEST_CHECK_EQ(read_sysreg(contextidr_el1), 0x3333);
	GUEST_CHECK_EQ(read_sysreg(far_el1), 0x4444000);
	GUEST_CHECK_EQ(read_sysreg(dbgbvr0_el1), 0x5555000);
	GUEST_CHECK_EQ(read_sysreg(cntkctl_el1), 2);
	GUEST_CHECK_EQ(timer_cval(TIMER_VIRTUAL), due);
	/* The counter went on from where it was, not from where the new VM's was. */
	GUEST_CHECK(timer_counter(TIMER_VIRTUAL) + guest_us(300000) > due);
	while (!(timer_ctl(TIMER_VIRTUAL) & TIMER_ISTATUS))
		;
}

/* As a VMM does it: everything that there is, in the order of the list. */
static void move(struct vcpu *from, struct vcpu *to)
{
	static struct {
		u64 n;
		u64 reg[1000];
	} list = { .n = ARRAY_SIZE(list.reg) };
	u64 value[32], there[32], count = 0;

	memcpy(to->vm->ram, from->vm->ram, from->vm->ram_size);
	CHECK_OK(ioctl(from->fd, KVM_GET_REG_LIST, &list));
	for (u64 i = 0; i < list.n; i++) {
		CHECK_OK(reg_try_get(from, list.reg[i], value));
		if (list.reg[i] == KVM_REG_ARM_TIMER_CNT)
			count = value[0];
		if (reg_try_set(to, list.reg[i], value))
			ktap_expect(__FILE__, __LINE__, "register %#lx cannot be set: errno %d", list.reg[i], errno);
	}
	for (u64 i = 0; i < list.n; i++) {
		u64 size = 1UL << ((list.reg[i] & KVM_REG_SIZE_MASK) >> KVM_REG_SIZE_SHIFT);

		if (list.reg[i] == KVM_REG_ARM_TIMER_CNT || list.reg[i] == KVM_REG_ARM_PTIMER_CNT)
			continue;
		CHECK_OK(reg_try_get(from, list.reg[i], value));
		CHECK_OK(reg_try_get(to, list.reg[i], there));
		if (memcmp(value, there, size))
			ktap_expect(__FILE__, __LINE__, "register %#lx: %#lx became %#lx", list.reg[i], value[0], there[0]);
	}
	EXPECT(count > 0 && reg_get(to, KVM_REG_ARM_TIMER_CNT) >= count);
}

TEST(goes_on_in_another_vm)
{
	bool keys = cap(KVM_CAP_ARM_PTRAUTH_ADDRESS) > 0;
	struct vm_options options = { .main = guest_moved, .features = keys ? PTRAUTH : 0 };
	struct vm *from = vm_create_(&options), *to;

	VM_GLOBAL(from, has_keys) = keys;
	vcpu_sync(&from->vcpus[0], 1);
	/* The exit's access ends when KVM_RUN is called again. */
	from->vcpus[0].run->immediate_exit = 1;
	CHECK_EQ(vcpu_run(&from->vcpus[0]), -EINTR);
	to = vm_create_(&options);
	move(&from->vcpus[0], &to->vcpus[0]);
	vm_destroy(from);
	vcpu_done(&to->vcpus[0]);
}

/* The level of a timer's line is what the timer says, whatever was restored for it. */
static u64 interrupts;

static void on_irq(struct guest_regs *regs)
{
	u32 intid = gic_ack();

	interrupts++;
	if (intid != GIC_SPURIOUS)
		gic_eoi(intid);
}

static void guest_without_timers(u64 arg)
{
	guest_irq_handler = on_irq;
	gic_init_distributor();
	gic_init_cpu();
	gic_enable(PPI_VTIMER);
	irq_enable();
	guest_delay_us(2000);
	GUEST_CHECK_EQ(READ_ONCE(interrupts), 0);
}

TEST(level_of_a_timer_that_is_off)
{
	struct vm *vm = vm_create(.main = guest_without_timers, .gic = true);
	u32 levels = 1U << PPI_VTIMER;

	CHECK_OK(attr_set(vm->gic, KVM_DEV_ARM_VGIC_GRP_LEVEL_INFO,
			  VGIC_LEVEL_INFO_LINE_LEVEL << KVM_DEV_ARM_VGIC_LINE_LEVEL_INFO_SHIFT, &levels));
	vcpu_done(&vm->vcpus[0]);
}
