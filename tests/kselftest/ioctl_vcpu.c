// SPDX-License-Identifier: GPL-2.0
/* The contract of the ioctls on a vCPU, but for registers (one_reg.c) and signals (signals.c). */
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "abi.h"
#include "timer.h"

static void guest_nothing(u64 arg)
{
}

/* A vCPU that nobody initialised. */
static int raw_vcpu(int *vm)
{
	*vm = CHECK_OK(ioctl(sys_fd(), KVM_CREATE_VM, 0));
	return CHECK_OK(ioctl(*vm, KVM_CREATE_VCPU, 0));
}

TEST(unknown_ioctls)
{
	int vm, vcpu = raw_vcpu(&vm);

	EXPECT_UNKNOWN_IOCTL(vcpu, UNKNOWN_IOCTL);
	EXPECT_UNKNOWN_IOCTL(vcpu, KVM_CREATE_VCPU);
	EXPECT_UNKNOWN_IOCTL(vcpu, _IO('x', 1));
}

TEST(bad_pointers)
{
	static const unsigned long requests[] = {
		KVM_ARM_VCPU_INIT, KVM_SET_ONE_REG, KVM_GET_ONE_REG, KVM_GET_REG_LIST, KVM_SET_MP_STATE, KVM_GET_MP_STATE, KVM_SET_SIGNAL_MASK,
		KVM_HAS_DEVICE_ATTR, KVM_GET_DEVICE_ATTR, KVM_SET_DEVICE_ATTR, KVM_ARM_VCPU_FINALIZE,
	};
	struct vm *vm = vm_create(.main = guest_nothing);

	for (size_t i = 0; i < ARRAY_SIZE(requests); i++) {
		errno = 0;
		if (ioctl(vm->vcpus[0].fd, requests[i], BAD_POINTER) != -1 || errno != EFAULT)
			ktap_expect(__FILE__, __LINE__, "ioctl nr %#lx: errno %d, wanted EFAULT", _IOC_NR(requests[i]), errno);
	}
}

TEST(map_of_the_run_page)
{
	int vm, vcpu = raw_vcpu(&vm), ends[2];
	long size = CHECK_OK(ioctl(sys_fd(), KVM_GET_VCPU_MMAP_SIZE, 0));
	struct kvm_run *run = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0), *again;
	u8 *tail;

	CHECK(run != MAP_FAILED);
	again = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
	CHECK(again != MAP_FAILED);
	run->immediate_exit = 1;
	EXPECT_EQ(again->immediate_exit, 1); /* one page, wherever it is mapped */
	for (size_t i = sizeof(*run); i < 4096; i++)
		if (((u8 *)run)[i])
			FAIL("byte %zu of the run page is %u", i, ((u8 *)run)[i]);
	tail = mmap(NULL, 4096, PROT_READ, MAP_SHARED, vcpu, 1 << 20);
	/* Beyond the end: either refused here, or nothing is there when it is touched (EFAULT for SIGBUS). */
	CHECK_OK(pipe(ends));
	EXPECT(tail == MAP_FAILED || write(ends[1], tail, 1) == -1);
	close(ends[0]);
	close(ends[1]);
	close(vcpu);
	EXPECT_EQ(run->immediate_exit, 1); /* the mapping keeps it */
	munmap(run, size);
}

TEST(before_init)
{
	u64 value = 0, list[2] = { 0 };
	struct kvm_one_reg reg = { .id = CORE_REG(regs.pc), .addr = (u64)&value };
	struct kvm_vcpu_events events = { 0 };
	struct kvm_mp_state state;
	int vm, vcpu = raw_vcpu(&vm), feature = KVM_ARM_VCPU_SVE;

	EXPECT_ERRNO(ioctl(vcpu, KVM_ARM_VCPU_FINALIZE, &feature), ENOEXEC);
	EXPECT_ERRNO(ioctl(vcpu, KVM_ARM_VCPU_FINALIZE, BAD_POINTER), ENOEXEC);
	EXPECT_ERRNO(ioctl(vcpu, KVM_RUN, 0), ENOEXEC);
	EXPECT_ERRNO(ioctl(vcpu, KVM_GET_ONE_REG, &reg), ENOEXEC);
	EXPECT_ERRNO(ioctl(vcpu, KVM_SET_ONE_REG, &reg), ENOEXEC);
	EXPECT_ERRNO(ioctl(vcpu, KVM_GET_REG_LIST, list), ENOEXEC);
	if (cap(KVM_CAP_VCPU_EVENTS) > 0) {
		EXPECT_ERRNO(ioctl(vcpu, KVM_GET_VCPU_EVENTS, &events), ENOEXEC);
		EXPECT_ERRNO(ioctl(vcpu, KVM_SET_VCPU_EVENTS, &events), ENOEXEC);
	}
	EXPECT_OK(ioctl(vcpu, KVM_GET_MP_STATE, &state));
	EXPECT_EQ(state.mp_state, KVM_MP_STATE_RUNNABLE);
}

TEST(vcpu_init)
{
	struct kvm_vcpu_init init = { .target = KVM_ARM_TARGET_GENERIC_V8 }, bad;
	int vm, vcpu = raw_vcpu(&vm);

	bad = init, bad.target = 99;
	EXPECT_ERRNO(ioctl(vcpu, KVM_ARM_VCPU_INIT, &bad), EINVAL);
	bad = init, bad.target = -1;
	EXPECT_ERRNO(ioctl(vcpu, KVM_ARM_VCPU_INIT, &bad), EINVAL);
	bad = init, bad.features[0] = 1u << 31;
	EXPECT_ERRNO(ioctl(vcpu, KVM_ARM_VCPU_INIT, &bad), ENOENT);
	bad = init, bad.features[6] = 1;
	EXPECT_ERRNO(ioctl(vcpu, KVM_ARM_VCPU_INIT, &bad), ENOENT);
	/* Address and generic pointer authentication come together. */
	bad = init, bad.features[0] = 1 << KVM_ARM_VCPU_PTRAUTH_ADDRESS;
	EXPECT_ERRNO(ioctl(vcpu, KVM_ARM_VCPU_INIT, &bad), EINVAL);

	init.features[0] = 1 << KVM_ARM_VCPU_PSCI_0_2;
	EXPECT_OK(ioctl(vcpu, KVM_ARM_VCPU_INIT, &init));
	EXPECT_OK(ioctl(vcpu, KVM_ARM_VCPU_INIT, &init)); /* a reset */
	bad = init, bad.features[0] = 0; /* other features than before */
	EXPECT_ERRNO(ioctl(vcpu, KVM_ARM_VCPU_INIT, &bad), EINVAL);
	/* Power-off is not a feature that must stay. */
	bad = init, bad.features[0] |= 1 << KVM_ARM_VCPU_POWER_OFF;
	EXPECT_OK(ioctl(vcpu, KVM_ARM_VCPU_INIT, &bad));
	EXPECT_OK(ioctl(vcpu, KVM_ARM_VCPU_INIT, &init));
	/* All vCPUs of a VM have the same ones. */
	vcpu = CHECK_OK(ioctl(vm, KVM_CREATE_VCPU, 1));
	bad.features[0] = 0;
	EXPECT_ERRNO(ioctl(vcpu, KVM_ARM_VCPU_INIT, &bad), EINVAL);
	EXPECT_OK(ioctl(vcpu, KVM_ARM_VCPU_INIT, &init));
}

/* A feature works exactly where its capability is announced. */
TEST(vcpu_init_features)
{
	static const struct {
		int feature, capability;
	} f[] = {
		{ KVM_ARM_VCPU_EL1_32BIT, KVM_CAP_ARM_EL1_32BIT }, { KVM_ARM_VCPU_PMU_V3, KVM_CAP_ARM_PMU_V3 },
		{ KVM_ARM_VCPU_SVE, KVM_CAP_ARM_SVE }, { KVM_ARM_VCPU_HAS_EL2, KVM_CAP_ARM_EL2 },
	};
	struct kvm_vcpu_init both = {
		.target = KVM_ARM_TARGET_GENERIC_V8,
		.features[0] = 1 << KVM_ARM_VCPU_PTRAUTH_ADDRESS | 1 << KVM_ARM_VCPU_PTRAUTH_GENERIC
	};
	int vm, vcpu;

	for (size_t i = 0; i < ARRAY_SIZE(f); i++) {
		struct kvm_vcpu_init init = { .target = KVM_ARM_TARGET_GENERIC_V8, .features[0] = 1u << f[i].feature };

		if (cap(f[i].capability) > 0)
			continue;
		vcpu = raw_vcpu(&vm);
		errno = 0;
		if (ioctl(vcpu, KVM_ARM_VCPU_INIT, &init) != -1 || errno != EINVAL)
			ktap_expect(__FILE__, __LINE__, "feature %d without its capability: errno %d, wanted EINVAL", f[i].feature, errno);
	}
	vcpu = raw_vcpu(&vm);
	if (cap(KVM_CAP_ARM_PTRAUTH_ADDRESS))
		EXPECT_OK(ioctl(vcpu, KVM_ARM_VCPU_INIT, &both));
	else
		EXPECT_ERRNO(ioctl(vcpu, KVM_ARM_VCPU_INIT, &both), EINVAL);
}

TEST(vcpu_init_resets)
{
	struct vm *vm = vm_create(.main = guest_nothing);
	struct vcpu *vcpu = &vm->vcpus[0];
	struct kvm_vcpu_init init = { .target = KVM_ARM_TARGET_GENERIC_V8, .features[0] = 1 << KVM_ARM_VCPU_PSCI_0_2 };

	vcpu_done(vcpu);
	/* The guest's last store is complete once the vCPU is entered again. */
	vcpu->run->immediate_exit = 1;
	CHECK_EQ(vcpu_run(vcpu), -EINTR);
	vcpu->run->immediate_exit = 0;
	CHECK_OK(ioctl(vcpu->fd, KVM_ARM_VCPU_INIT, &init));
	EXPECT_EQ(reg_get(vcpu, CORE_REG(regs.pc)), 0);
	EXPECT_EQ(reg_get(vcpu, CORE_REG(regs.regs[5])), 0);
	EXPECT_EQ(reg_get(vcpu, CORE_REG(regs.pstate)), 0x3c5); /* EL1h, everything masked */
	EXPECT_EQ(reg_get(vcpu, ARM64_SYS_REG(3, 0, 1, 0, 0)) & 1, 0); /* SCTLR_EL1.M */
	/* And it runs again. */
	reg_set(vcpu, CORE_REG(regs.pc), (u64)guest_boot);
	reg_set(vcpu, CORE_REG(regs.regs[0]), (u64)vcpu->cpu);
	vcpu_done(vcpu);
}

TEST(run_arguments)
{
	struct vm *vm = vm_create(.main = guest_nothing);
	struct vcpu *vcpu = &vm->vcpus[0];

	EXPECT_ERRNO(ioctl(vcpu->fd, KVM_RUN, 1), EINVAL);
	vcpu->run->immediate_exit = 1;
	EXPECT_ERRNO(ioctl(vcpu->fd, KVM_RUN, 0), EINTR);
	EXPECT_ERRNO(ioctl(vcpu->fd, KVM_RUN, 0), EINTR);
	EXPECT_EQ(reg_get(vcpu, CORE_REG(regs.pc)), (u64)guest_boot); /* nothing has run */
	vcpu->run->immediate_exit = 0;
	vcpu_done(vcpu);
}

static void guest_read_one(u64 arg)
{
	GUEST_CHECK_EQ(mmio_read32(0x0a000000), 0x12345678);
	GUEST_SYNC(1);
}

/* immediate_exit completes the access in flight and goes no further. */
TEST(immediate_exit_completes_mmio)
{
	struct vm *vm = vm_create(.main = guest_read_one);
	struct vcpu *vcpu = &vm->vcpus[0];
	u64 pc;

	CHECK_EQ(vcpu_run(vcpu), 0);
	CHECK_EQ(vcpu->run->exit_reason, KVM_EXIT_MMIO);
	pc = reg_get(vcpu, CORE_REG(regs.pc));
	memcpy(vcpu->run->mmio.data, &(u32){ 0x12345678 }, 4);
	vcpu->run->immediate_exit = 1;
	EXPECT_EQ(vcpu_run(vcpu), -EINTR);
	EXPECT_EQ(reg_get(vcpu, CORE_REG(regs.pc)), pc + 4);
	vcpu->run->immediate_exit = 0;
	vcpu_sync(vcpu, 1);
	vcpu_done(vcpu);
}

static int set_state(struct vcpu *vcpu, u32 state)
{
	return ioctl(vcpu->fd, KVM_SET_MP_STATE, &(struct kvm_mp_state){ state });
}

static u32 get_state(struct vcpu *vcpu)
{
	struct kvm_mp_state state = { 99 };

	CHECK_OK(ioctl(vcpu->fd, KVM_GET_MP_STATE, &state));
	return state.mp_state;
}

TEST(mp_state)
{
	struct vm *vm = vm_create(.main = guest_nothing, .vcpus = 2, .secondaries_off = true);
	struct vcpu *vcpu = &vm->vcpus[0];

	EXPECT_EQ(get_state(vcpu), KVM_MP_STATE_RUNNABLE);
	EXPECT_EQ(get_state(&vm->vcpus[1]), KVM_MP_STATE_STOPPED);
	EXPECT_ERRNO(set_state(vcpu, KVM_MP_STATE_HALTED), EINVAL);
	EXPECT_ERRNO(set_state(vcpu, 12345), EINVAL);
	EXPECT_OK(set_state(vcpu, KVM_MP_STATE_STOPPED));
	EXPECT_EQ(get_state(vcpu), KVM_MP_STATE_STOPPED);
	EXPECT_OK(set_state(vcpu, KVM_MP_STATE_RUNNABLE));
	EXPECT_EQ(get_state(vcpu), KVM_MP_STATE_RUNNABLE);
	vcpu_done(vcpu);
	EXPECT_OK(set_state(&vm->vcpus[1], KVM_MP_STATE_RUNNABLE));
	vcpu_done(&vm->vcpus[1]);
}

/* A stopped vCPU waits in KVM_RUN, for a signal as well. */
TEST(run_while_stopped)
{
	struct vm *vm = vm_create(.main = guest_nothing);

	CHECK_OK(set_state(&vm->vcpus[0], KVM_MP_STATE_STOPPED));
	kick_after(200000);
	EXPECT_EQ(vcpu_run(&vm->vcpus[0]), -EINTR);
	EXPECT_EQ(get_state(&vm->vcpus[0]), KVM_MP_STATE_STOPPED);
	EXPECT_EQ(reg_get(&vm->vcpus[0], CORE_REG(regs.pc)), (u64)guest_boot);
}

TEST(signal_mask_arguments)
{
	struct {
		struct kvm_signal_mask head;
		u8 set[128];
	} mask = { .head = { .len = 4 } };
	struct vm *vm = vm_create(.main = guest_nothing);
	int fd = vm->vcpus[0].fd;

	EXPECT_ERRNO(ioctl(fd, KVM_SET_SIGNAL_MASK, &mask), EINVAL);
	mask.head.len = 128;
	EXPECT_ERRNO(ioctl(fd, KVM_SET_SIGNAL_MASK, &mask), EINVAL);
	mask.head.len = 8; /* the kernel's sigset_t */
	EXPECT_OK(ioctl(fd, KVM_SET_SIGNAL_MASK, &mask));
	EXPECT_OK(ioctl(fd, KVM_SET_SIGNAL_MASK, NULL));
}

TEST(register_list)
{
	struct vm *vm = vm_create(.main = guest_nothing);
	struct vcpu *vcpu = &vm->vcpus[0];
	struct kvm_reg_list *list = calloc(1, 8 + 4096 * 8);
	bool has_pc = false, has_v31 = false, has_sctlr = false;

	EXPECT_ERRNO(ioctl(vcpu->fd, KVM_GET_REG_LIST, list), E2BIG);
	CHECK(list->n > 100 && list->n < 4096); /* it says how many */
	list->n--;
	EXPECT_ERRNO(ioctl(vcpu->fd, KVM_GET_REG_LIST, list), E2BIG);
	CHECK_OK(ioctl(vcpu->fd, KVM_GET_REG_LIST, list));
	for (u64 i = 0; i < list->n; i++) {
		u64 id = list->reg[i], value[32];

		has_pc |= id == CORE_REG(regs.pc);
		has_v31 |= id == CORE_REG(fp_regs.vregs[31]);
		has_sctlr |= id == ARM64_SYS_REG(3, 0, 1, 0, 0);
		for (u64 j = 0; j < i; j++)
			if (list->reg[j] == id)
				FAIL("register %#lx is listed twice", id);
		/* What is listed can be read, and written back as it was. */
		if (reg_try_get(vcpu, id, value))
			ktap_expect(__FILE__, __LINE__, "listed register %#lx cannot be read: errno %d", id, errno);
		else if (reg_try_set(vcpu, id, value))
			ktap_expect(__FILE__, __LINE__, "listed register %#lx cannot be set to what it is: errno %d", id, errno);
	}
	EXPECT(has_pc && has_v31 && has_sctlr);
	reg_set(vcpu, CORE_REG(regs.pc), (u64)guest_boot);
	vcpu_done(vcpu);
}

TEST(timer_attributes)
{
	struct vm *vm = vm_create(.main = guest_nothing, .gic = true, .vcpus = 2);
	int fd = vm->vcpus[0].fd, irq = 0;

	EXPECT_OK(attr_has(fd, KVM_ARM_VCPU_TIMER_CTRL, KVM_ARM_VCPU_TIMER_IRQ_VTIMER));
	EXPECT_OK(attr_has(fd, KVM_ARM_VCPU_TIMER_CTRL, KVM_ARM_VCPU_TIMER_IRQ_PTIMER));
	EXPECT_ERRNO(attr_has(fd, KVM_ARM_VCPU_TIMER_CTRL, 99), ENXIO);
	EXPECT_ERRNO(attr_has(fd, 12345, 0), ENXIO);
	EXPECT_ERRNO(attr_get(fd, 12345, 0, &irq), ENXIO);
	EXPECT_ERRNO(attr_set(fd, 12345, 0, &irq), ENXIO);
	EXPECT_OK(attr_get(fd, KVM_ARM_VCPU_TIMER_CTRL, KVM_ARM_VCPU_TIMER_IRQ_VTIMER, &irq));
	EXPECT_EQ(irq, 27);
	EXPECT_OK(attr_get(fd, KVM_ARM_VCPU_TIMER_CTRL, KVM_ARM_VCPU_TIMER_IRQ_PTIMER, &irq));
	EXPECT_EQ(irq, 30);
	EXPECT_ERRNO(attr_get(fd, KVM_ARM_VCPU_TIMER_CTRL, 99, &irq), ENXIO);
	EXPECT_ERRNO(attr_get(fd, KVM_ARM_VCPU_TIMER_CTRL, KVM_ARM_VCPU_TIMER_IRQ_VTIMER, BAD_POINTER), EFAULT);
	EXPECT_ERRNO(attr_set(fd, KVM_ARM_VCPU_TIMER_CTRL, KVM_ARM_VCPU_TIMER_IRQ_VTIMER, BAD_POINTER), EFAULT);
	irq = 15; /* an SGI */
	EXPECT_ERRNO(attr_set(fd, KVM_ARM_VCPU_TIMER_CTRL, KVM_ARM_VCPU_TIMER_IRQ_VTIMER, &irq), EINVAL);
	irq = 32;
	EXPECT_ERRNO(attr_set(fd, KVM_ARM_VCPU_TIMER_CTRL, KVM_ARM_VCPU_TIMER_IRQ_VTIMER, &irq), EINVAL);
	irq = 20;
	EXPECT_ERRNO(attr_set(fd, KVM_ARM_VCPU_TIMER_CTRL, 99, &irq), ENXIO);
	EXPECT_OK(attr_set(fd, KVM_ARM_VCPU_TIMER_CTRL, KVM_ARM_VCPU_TIMER_IRQ_VTIMER, &irq));
	irq = 0;
	EXPECT_OK(attr_get(vm->vcpus[1].fd, KVM_ARM_VCPU_TIMER_CTRL, KVM_ARM_VCPU_TIMER_IRQ_VTIMER, &irq));
	EXPECT_EQ(irq, 20); /* one number for the whole VM */
	vcpu_done(&vm->vcpus[0]);
	EXPECT_ERRNO(attr_set(fd, KVM_ARM_VCPU_TIMER_CTRL, KVM_ARM_VCPU_TIMER_IRQ_VTIMER, &irq), EBUSY);
}

TEST(timer_attributes_conflict)
{
	struct vm *vm = vm_create(.main = guest_nothing, .gic = true);
	int irq = 30; /* where the physical timer is */

	EXPECT_OK(attr_set(vm->vcpus[0].fd, KVM_ARM_VCPU_TIMER_CTRL, KVM_ARM_VCPU_TIMER_IRQ_VTIMER, &irq));
	EXPECT_EQ(vcpu_run(&vm->vcpus[0]), -EINVAL);
}

TEST(timer_attributes_without_gic)
{
	struct vm *vm = vm_create(.main = guest_nothing);
	int irq = 20;

	EXPECT_ERRNO(attr_set(vm->vcpus[0].fd, KVM_ARM_VCPU_TIMER_CTRL, KVM_ARM_VCPU_TIMER_IRQ_VTIMER, &irq), EINVAL);
}

TEST(run_with_uninitialised_gic)
{
	struct vm *vm = vm_create(.main = guest_nothing, .gic = true, .no_gic_init = true);

	EXPECT_EQ(vcpu_run(&vm->vcpus[0]), -EBUSY);
}

TEST(vcpu_events)
{
	struct vm *vm = vm_create(.main = guest_nothing);
	int fd = vm->vcpus[0].fd;
	struct kvm_vcpu_events events;

	if (cap(KVM_CAP_VCPU_EVENTS) <= 0)
		SKIP("no KVM_CAP_VCPU_EVENTS");
	memset(&events, 0xff, sizeof(events));
	CHECK_OK(ioctl(fd, KVM_GET_VCPU_EVENTS, &events));
	EXPECT_EQ(events.exception.serror_pending, 0);
	EXPECT_EQ(events.exception.ext_dabt_pending, 0);
	EXPECT_OK(ioctl(fd, KVM_SET_VCPU_EVENTS, &events));
	events.reserved[3] = 1;
	EXPECT_ERRNO(ioctl(fd, KVM_SET_VCPU_EVENTS, &events), EINVAL);
	events.reserved[3] = 0;
	events.exception.pad[2] = 1;
	EXPECT_ERRNO(ioctl(fd, KVM_SET_VCPU_EVENTS, &events), EINVAL);
	EXPECT_ERRNO(ioctl(fd, KVM_GET_VCPU_EVENTS, BAD_POINTER), EFAULT);
	EXPECT_ERRNO(ioctl(fd, KVM_SET_VCPU_EVENTS, BAD_POINTER), EFAULT);
}

/* Only SVE has to be finalised, which this vCPU has not been given. */
TEST(nothing_to_finalize)
{
	static const int features[] = { KVM_ARM_VCPU_SVE, KVM_ARM_VCPU_PSCI_0_2, 0, -1, KVM_ARM_VCPU_HAS_EL2_E2H0 + 1 };
	struct vm *vm = vm_create(.main = guest_nothing);

	for (size_t i = 0; i < ARRAY_SIZE(features); i++)
		EXPECT_ERRNO(ioctl(vm->vcpus[0].fd, KVM_ARM_VCPU_FINALIZE, &features[i]), EINVAL);
}

TEST(not_for_arm64)
{
	struct vm *vm = vm_create(.main = guest_nothing);
	u8 buffer[4096] = { 0 };

	/* Known numbers that arm64 does not serve. */
	EXPECT_ERRNO(ioctl(vm->vcpus[0].fd, KVM_GET_REGS, buffer), EINVAL);
	EXPECT_ERRNO(ioctl(vm->vcpus[0].fd, KVM_SET_REGS, buffer), EINVAL);
	EXPECT_ERRNO(ioctl(vm->vcpus[0].fd, KVM_GET_FPU, buffer), EINVAL);
	EXPECT_ERRNO(ioctl(vm->vcpus[0].fd, KVM_TRANSLATE, buffer), EINVAL);
}

static int running, stop_running;

static void guest_spin(u64 arg)
{
	WRITE_ONCE(running, 1);
	while (!READ_ONCE(stop_running))
		;
}

static void *run_thread(void *arg)
{
	vcpu_done(arg);
	return NULL;
}

/* The counter cannot be moved under a running vCPU. */
TEST(counter_offset_while_running)
{
	struct kvm_arm_counter_offset offset = { 0 };
	struct vm *vm = vm_create(.main = guest_spin);
	pthread_t thread;

	CHECK(pthread_create(&thread, NULL, run_thread, &vm->vcpus[0]) == 0);
	while (!VM_GLOBAL(vm, running))
		sleep_us(1000);
	EXPECT_ERRNO(ioctl(vm->fd, KVM_ARM_SET_COUNTER_OFFSET, &offset), EBUSY);
	VM_GLOBAL(vm, stop_running) = 1;
	pthread_join(thread, NULL);
	EXPECT_OK(ioctl(vm->fd, KVM_ARM_SET_COUNTER_OFFSET, &offset));
}
