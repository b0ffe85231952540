// SPDX-License-Identifier: GPL-2.0
/* Every allocation and every user copy of every ioctl fails once: the errno says so, nothing is lost, and the VM goes on. */
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "gic.h"
#include "held.h"
#include "inject.h"
#include "vm.h"

#define AREA 0x80000000UL
#define AREA_SIZE 0x400000UL
#define DOORBELL 0x0a000000UL

static void guest_life(u64 arg)
{
	gic_init_distributor();
	gic_init_cpu();
	for (u64 i = 0;; i++) {
		/* A page that the VMM has not touched, far enough from the last for another table now and then. */
		*(volatile u64 *)(AREA + i * 0x11000 % AREA_SIZE) = i;
		mmio_write32(DOORBELL, i);
		GUEST_SYNC(i);
	}
}

static void guest_hello(u64 arg)
{
	GUEST_SYNC(0);
}

/* What KVM_RUN does until the guest has got to its next sync: 0, or -1 and errno. */
static long run_to_sync(struct vcpu *vcpu)
{
	struct guest_message message;

	for (;;) {
		int ret = vcpu_run(vcpu);

		if (ret) {
			errno = -ret;
			return -1;
		}
		if (vcpu_message(vcpu, &message) && message.command == GUEST_CMD_SYNC)
			return 0;
		if (vcpu->run->exit_reason != KVM_EXIT_MMIO)
			FAIL("unexpected exit %u %s", vcpu->run->exit_reason, exit_name(vcpu->run->exit_reason));
	}
}

TEST_SECONDS(opening_and_making_vms, 60)
{
	struct held before;
	int fd;

	inject_setup();
	/* The first VM of a process leaves the list of those that follow its address space. */
	fd = sys_fd();
	close(CHECK_OK(ioctl(fd, KVM_CREATE_VM, 0)));
	before = held_now();
	close(INJECT(open(ktap_device, O_RDWR | O_CLOEXEC), close(r_)));
	close(INJECT(ioctl(fd, KVM_CREATE_VM, 0), close(r_)));
	CHECK(inject_count > 8);
	ktap_note("%u failures", inject_count);
	held_compare(before);
}

static const char *const made[] = { "KVM_CREATE_VCPU", "KVM_CREATE_DEVICE of a GICv3", "KVM_CREATE_DEVICE of an ITS" };

/* Makes one in a VM that has none; its file. */
static long make(struct vm *vm, u32 what)
{
	struct kvm_create_device device = { .type = what == 1 ? KVM_DEV_TYPE_ARM_VGIC_V3 : KVM_DEV_TYPE_ARM_VGIC_ITS, .fd = 12345 };

	if (what == 0)
		return ioctl(vm->fd, KVM_CREATE_VCPU, 1);
	return ioctl(vm->fd, KVM_CREATE_DEVICE, &device) ? -1 : (long)device.fd;
}

/* What cannot be undone needs a new VM for each failure; the one that it failed in must take it the second time. */
TEST_SECONDS(making_vcpus_and_devices, 60)
{
	struct held before;

	inject_setup();
	vm_destroy(vm_create(.main = guest_hello));
	before = held_now();
	for (u32 what = 0; what < ARRAY_SIZE(made); what++) {
		u32 hits = 0;
		bool hit = true;

		for (int nth = 1; hit; nth++) {
			struct vm *vm = vm_create(.main = guest_hello);
			long fd;
			int error;

			inject_arm(nth);
			fd = make(vm, what);
			error = errno;
			hit = inject_disarm();
			hits += hit;
			if (fd < 0) {
				if (!hit)
					FAIL("%s: %s, with nothing made to fail", made[what], strerrorname_np(error));
				inject_check(__FILE__, __LINE__, made[what], nth, error);
				CHECK_EQ(ioctl(vm->fd, KVM_CHECK_EXTENSION, KVM_CAP_MSI_DEVID), 0);
				fd = CHECK_OK(make(vm, what));
			}
			close(fd);
			/* A controller that nobody has set up keeps vCPUs from running. */
			CHECK(what == 1 || run_to_sync(&vm->vcpus[0]) == 0);
			vm_destroy(vm);
		}
		ktap_note("%s: %u failures", made[what], hits);
		CHECK(hits > 5);
	}
	held_compare(before);
}

static int set_routing(struct vm *vm)
{
	struct {
		struct kvm_irq_routing head;
		struct kvm_irq_routing_entry entries[64];
	} routing = { .head.nr = 64 };

	for (u32 i = 0; i < 64; i++)
		routing.entries[i] = (struct kvm_irq_routing_entry){ .gsi = i, .type = KVM_IRQ_ROUTING_IRQCHIP, .u.irqchip.pin = i };
	return ioctl(vm->fd, KVM_SET_GSI_ROUTING, &routing);
}

/* The life of a VM, in which each step fails in every way before it is done. */
static void live_through_it(void)
{
	struct vm *vm = vm_create(.main = guest_life, .gic = true, .no_gic_init = true);
	struct vcpu *vcpu = &vm->vcpus[0];
	struct kvm_smccc_filter filter = { .base = 0xc5000000, .nr_functions = 4, .action = KVM_SMCCC_FILTER_DENY };
	struct kvm_device_attr filter_attr = { .group = KVM_ARM_VM_SMCCC_CTRL, .attr = KVM_ARM_VM_SMCCC_FILTER, .addr = (u64)&filter };
	struct kvm_enable_cap nisv = { .cap = KVM_CAP_ARM_NISV_TO_USER };
	struct kvm_vcpu_init init;
	struct kvm_vcpu_events events;
	struct kvm_mp_state power;
	u8 *area = host_alloc(AREA_SIZE, 0x200000);
	int event = CHECK_OK(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)), resample = CHECK_OK(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
	struct kvm_irqfd irqfd = { .fd = event, .gsi = 2, .flags = KVM_IRQFD_FLAG_RESAMPLE, .resamplefd = resample };
	struct kvm_irqfd no_irqfd = { .fd = event, .gsi = 2, .flags = KVM_IRQFD_FLAG_DEASSIGN };
	struct kvm_ioeventfd bell = { .addr = DOORBELL, .len = 4, .fd = event };
	struct kvm_ioeventfd no_bell = { .addr = DOORBELL, .len = 4, .fd = event, .flags = KVM_IOEVENTFD_FLAG_DEASSIGN };
	struct {
		u64 n;
		u64 reg[2000];
	} *list = calloc(1, sizeof(*list));
	u64 masks[KVM_ARM_FEATURE_ID_RANGE_SIZE] = { 0 };
	struct reg_mask_range range = { .addr = (u64)masks };
	struct {
		u32 length;
		u8 bits[8];
	} signals = { .length = 8 };
	u64 value = 0, gicd_ctlr = 0;
	u32 lines = 128, timer = 27;

	/* Setting up. */
	INJECT_AGAIN(ioctl(vm->fd, KVM_ARM_PREFERRED_TARGET, &init));
	init.features[0] = 1 << KVM_ARM_VCPU_PSCI_0_2;
	INJECT_AGAIN(reg_try_get(vcpu, CORE_REG(regs.pc), &value));
	INJECT_AGAIN(ioctl(vcpu->fd, KVM_ARM_VCPU_INIT, &init));
	INJECT_AGAIN(reg_try_set(vcpu, CORE_REG(regs.pc), &value));
	value = (u64)vcpu->cpu;
	INJECT_AGAIN(reg_try_set(vcpu, CORE_REG(regs.regs[0]), &value));
	INJECT(vm_slot(vm, 1, 0, AREA, AREA_SIZE, area), CHECK_OK(vm_slot(vm, 1, 0, AREA, 0, area)));
	INJECT(ioctl(vm->fd, KVM_SET_DEVICE_ATTR, &filter_attr), FAIL("the filter cannot be set twice"));
	INJECT_AGAIN(ioctl(vm->fd, KVM_ENABLE_CAP, &nisv));
	INJECT_AGAIN(ioctl(vm->fd, KVM_ARM_GET_REG_WRITABLE_MASKS, &range));
	INJECT_AGAIN(attr_set(vm->gic, KVM_DEV_ARM_VGIC_GRP_NR_IRQS, 0, &lines));
	INJECT_AGAIN(attr_get(vm->gic, KVM_DEV_ARM_VGIC_GRP_NR_IRQS, 0, &lines));
	INJECT_AGAIN(attr_set(vcpu->fd, KVM_ARM_VCPU_TIMER_CTRL, KVM_ARM_VCPU_TIMER_IRQ_VTIMER, &timer));
	INJECT_AGAIN(attr_get(vcpu->fd, KVM_ARM_VCPU_TIMER_CTRL, KVM_ARM_VCPU_TIMER_IRQ_VTIMER, &timer));
	INJECT_AGAIN(attr_set(vm->gic, KVM_DEV_ARM_VGIC_GRP_CTRL, KVM_DEV_ARM_VGIC_CTRL_INIT, NULL));
	INJECT_AGAIN(attr_get(vm->gic, KVM_DEV_ARM_VGIC_GRP_DIST_REGS, 0, &gicd_ctlr));
	INJECT_AGAIN(attr_set(vm->gic, KVM_DEV_ARM_VGIC_GRP_DIST_REGS, 0, &gicd_ctlr));
	INJECT_AGAIN(set_routing(vm));
	INJECT(ioctl(vm->fd, KVM_IRQFD, &irqfd), CHECK_OK(ioctl(vm->fd, KVM_IRQFD, &no_irqfd)));
	INJECT(ioctl(vm->fd, KVM_IOEVENTFD, &bell), CHECK_OK(ioctl(vm->fd, KVM_IOEVENTFD, &no_bell)));

	/* Running: the first time, then with a page fault or two each time. */
	for (int i = 0; i < 40; i++) {
		INJECT_AGAIN(run_to_sync(vcpu));
		/* With the guest's pages gone, all of it comes again. */
		if (i % 8 == 7)
			CHECK_OK(madvise(area, AREA_SIZE, MADV_DONTNEED));
	}

	/* While it runs. */
	list->n = 0;
	CHECK(ioctl(vcpu->fd, KVM_GET_REG_LIST, list) == -1 && errno == E2BIG);
	INJECT_AGAIN(ioctl(vcpu->fd, KVM_GET_REG_LIST, list));
	for (u64 i = 0; i < list->n; i += 7) {
		u64 room[256];

		INJECT_AGAIN(reg_try_get(vcpu, list->reg[i], room));
	}
	INJECT_AGAIN(ioctl(vcpu->fd, KVM_GET_VCPU_EVENTS, &events));
	INJECT_AGAIN(ioctl(vcpu->fd, KVM_SET_VCPU_EVENTS, &events));
	INJECT_AGAIN(ioctl(vcpu->fd, KVM_GET_MP_STATE, &power));
	INJECT_AGAIN(ioctl(vcpu->fd, KVM_SET_MP_STATE, &power));
	INJECT_AGAIN(ioctl(vcpu->fd, KVM_SET_SIGNAL_MASK, &signals));
	INJECT_AGAIN(set_routing(vm));
	INJECT(ioctl(vm->fd, KVM_IOEVENTFD, &no_bell), CHECK_OK(ioctl(vm->fd, KVM_IOEVENTFD, &bell)));
	INJECT_AGAIN(ioctl(vm->fd, KVM_IRQFD, &no_irqfd));
	INJECT(vm_slot(vm, 1, 0, AREA, 0, area), CHECK_OK(vm_slot(vm, 1, 0, AREA, AREA_SIZE, area)));
	INJECT(vm_slot(vm, 1, 0, AREA, AREA_SIZE, area), CHECK_OK(vm_slot(vm, 1, 0, AREA, 0, area)));
	for (int i = 0; i < 8; i++)
		CHECK_OK(run_to_sync(vcpu));

	munmap(area, AREA_SIZE);
	close(event);
	close(resample);
	free(list);
	vm_destroy(vm);
}

TEST_SECONDS(a_whole_life, 120)
{
	struct held before;

	inject_setup();
	live_through_it();
	ktap_note("%u failures", inject_count);
	before = held_now();
	live_through_it();
	CHECK(inject_count > 200);
	held_compare(before);
}
