// SPDX-License-Identifier: GPL-2.0
/* Every allocation and every user copy of every ioctl fails once: the errno says so, nothing is lost, and the VM goes on. */
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "gic.h"
#include "held.h"
#include "inject.h"
#include "msi.h"
#include "vm.h"

#define AREA 0x80000000UL
#define AREA_SIZE 0x400000UL
#define LOGGED 0xc0000000UL
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
		CHECK(hits > 3);
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

/* A word of each kind that there is in a GICv3's state. */
static const struct {
	u32 group;
	u64 attr;
} gic_words[] = {
	{ KVM_DEV_ARM_VGIC_GRP_DIST_REGS, GICD_CTLR },
	{ KVM_DEV_ARM_VGIC_GRP_REDIST_REGS, GICR_ISENABLER0 },
	{ KVM_DEV_ARM_VGIC_GRP_CPU_SYSREGS, 0xc230 /* ICC_PMR_EL1 */ },
	{ KVM_DEV_ARM_VGIC_GRP_LEVEL_INFO, VGIC_LEVEL_INFO_LINE_LEVEL << KVM_DEV_ARM_VGIC_LINE_LEVEL_INFO_SHIFT | 32 },
};

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
	struct kvm_arm_counter_offset offset = { .counter_offset = 0 };
	struct kvm_irq_level line = { .irq = KVM_ARM_IRQ_TYPE_SPI << KVM_ARM_IRQ_TYPE_SHIFT | 40 };
	struct kvm_userspace_memory_region2 region = {
		.slot = 2, .guest_phys_addr = AREA + AREA_SIZE, .memory_size = 0x10000, .userspace_addr = (u64)area
	};
	struct kvm_userspace_memory_region2 no_region = { .slot = 2 };
	u64 value = 0, word = 0, stolen = vm_alloc(vm, 64, 64);
	u64 bitmap[AREA_SIZE / 4096 / 64 + 1] = {};
	struct kvm_dirty_log log = { .slot = 3, .dirty_bitmap = bitmap };
	struct kvm_clear_dirty_log clear = { .slot = 3, .num_pages = AREA_SIZE / 4096, .dirty_bitmap = bitmap };
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
	INJECT(ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION2, &region), CHECK_OK(ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION2, &no_region)));
	INJECT(vm_slot(vm, 3, KVM_MEM_LOG_DIRTY_PAGES, LOGGED, AREA_SIZE, area), CHECK_OK(vm_slot(vm, 3, 0, LOGGED, 0, area)));
	INJECT_AGAIN(ioctl(vm->fd, KVM_GET_DIRTY_LOG, &log));
	INJECT_AGAIN(ioctl(vm->fd, KVM_CLEAR_DIRTY_LOG, &clear));
	INJECT(vm_slot(vm, 3, 0, LOGGED, 0, area), CHECK_OK(vm_slot(vm, 3, KVM_MEM_LOG_DIRTY_PAGES, LOGGED, AREA_SIZE, area)));
	INJECT_AGAIN(ioctl(vm->fd, KVM_HAS_DEVICE_ATTR, &filter_attr));
	INJECT_ONCE(ioctl(vm->fd, KVM_SET_DEVICE_ATTR, &filter_attr));
	INJECT_AGAIN(ioctl(vm->fd, KVM_ENABLE_CAP, &nisv));
	INJECT_AGAIN(ioctl(vm->fd, KVM_ARM_SET_COUNTER_OFFSET, &offset));
	INJECT_AGAIN(ioctl(vm->fd, KVM_ARM_GET_REG_WRITABLE_MASKS, &range));
	INJECT_AGAIN(attr_has(vcpu->fd, KVM_ARM_VCPU_TIMER_CTRL, KVM_ARM_VCPU_TIMER_IRQ_VTIMER));
	INJECT_AGAIN(attr_set(vcpu->fd, KVM_ARM_VCPU_TIMER_CTRL, KVM_ARM_VCPU_TIMER_IRQ_VTIMER, &timer));
	INJECT_AGAIN(attr_get(vcpu->fd, KVM_ARM_VCPU_TIMER_CTRL, KVM_ARM_VCPU_TIMER_IRQ_VTIMER, &timer));
	if (attr_has(vcpu->fd, KVM_ARM_VCPU_PVTIME_CTRL, KVM_ARM_VCPU_PVTIME_IPA) == 0) {
		INJECT_ONCE(attr_set(vcpu->fd, KVM_ARM_VCPU_PVTIME_CTRL, KVM_ARM_VCPU_PVTIME_IPA, &stolen));
		INJECT_AGAIN(attr_get(vcpu->fd, KVM_ARM_VCPU_PVTIME_CTRL, KVM_ARM_VCPU_PVTIME_IPA, &stolen));
	}
	INJECT_AGAIN(attr_set(vm->gic, KVM_DEV_ARM_VGIC_GRP_NR_IRQS, 0, &lines));
	INJECT_AGAIN(attr_get(vm->gic, KVM_DEV_ARM_VGIC_GRP_NR_IRQS, 0, &lines));
	INJECT_AGAIN(attr_set(vm->gic, KVM_DEV_ARM_VGIC_GRP_CTRL, KVM_DEV_ARM_VGIC_CTRL_INIT, NULL));
	for (u32 i = 0; i < ARRAY_SIZE(gic_words); i++) {
		INJECT_AGAIN(attr_has(vm->gic, gic_words[i].group, gic_words[i].attr));
		INJECT_AGAIN(attr_get(vm->gic, gic_words[i].group, gic_words[i].attr, &word));
		INJECT_AGAIN(attr_set(vm->gic, gic_words[i].group, gic_words[i].attr, &word));
	}
	INJECT_AGAIN(ioctl(vm->fd, KVM_IRQ_LINE, &line));
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

/* Where the guest sees its interrupt controllers, each place set once. */
TEST_SECONDS(places_of_the_interrupt_controllers, 60)
{
	struct held before;

	inject_setup();
	for (int round = 0; round < 2; round++) {
		struct vm *vm = vm_create(.main = guest_hello);
		struct kvm_create_device gic = { .type = KVM_DEV_TYPE_ARM_VGIC_V3 };
		u64 dist = GUEST_GICD, its_base = GUEST_ITS;
		u64 regions[] = { 1UL << 52 | GUEST_GICR, 4UL << 52 | 0x0b000000 | 1 };
		int its;

		if (round)
			before = held_now();
		CHECK_OK(ioctl(vm->fd, KVM_CREATE_DEVICE, &gic));
		its = its_create(vm, 0);
		INJECT_ONCE(attr_set(gic.fd, KVM_DEV_ARM_VGIC_GRP_ADDR, KVM_VGIC_V3_ADDR_TYPE_DIST, &dist));
		INJECT_AGAIN(attr_get(gic.fd, KVM_DEV_ARM_VGIC_GRP_ADDR, KVM_VGIC_V3_ADDR_TYPE_DIST, &dist));
		for (u32 i = 0; i < ARRAY_SIZE(regions); i++) {
			INJECT_ONCE(attr_set(gic.fd, KVM_DEV_ARM_VGIC_GRP_ADDR, KVM_VGIC_V3_ADDR_TYPE_REDIST_REGION, &regions[i]));
			INJECT_AGAIN(attr_get(gic.fd, KVM_DEV_ARM_VGIC_GRP_ADDR, KVM_VGIC_V3_ADDR_TYPE_REDIST_REGION, &regions[i]));
		}
		INJECT_ONCE(attr_set(its, KVM_DEV_ARM_VGIC_GRP_ADDR, KVM_VGIC_ITS_ADDR_TYPE, &its_base));
		INJECT_AGAIN(attr_get(its, KVM_DEV_ARM_VGIC_GRP_ADDR, KVM_VGIC_ITS_ADDR_TYPE, &its_base));
		INJECT_AGAIN(attr_has(its, KVM_DEV_ARM_VGIC_GRP_ADDR, KVM_VGIC_ITS_ADDR_TYPE));
		INJECT_AGAIN(attr_set(gic.fd, KVM_DEV_ARM_VGIC_GRP_CTRL, KVM_DEV_ARM_VGIC_CTRL_INIT, NULL));
		INJECT_AGAIN(attr_set(its, KVM_DEV_ARM_VGIC_GRP_CTRL, KVM_DEV_ARM_VGIC_CTRL_INIT, NULL));
		CHECK_OK(run_to_sync(&vm->vcpus[0]));
		close(its);
		close(gic.fd);
		vm_destroy(vm);
	}
	ktap_note("%u failures", inject_count);
	held_compare(before);
}

/* ---- Messages ---- */

#define DEVICE 3
#define EVENTS 8
static struct its_memory its_memory;
static u64 enough, taken[EVENTS];

static void on_lpi(struct guest_regs *regs)
{
	u32 intid = gic_ack();

	if (intid == GIC_SPURIOUS)
		return;
	gic_eoi(intid);
	if (intid < LPI(0) || intid % 64 || intid >= LPI(64 * EVENTS))
		GUEST_FAIL("not an LPI of this test", intid, 0);
	taken[(intid - LPI(0)) / 64]++;
}

static void guest_maps(u64 arg)
{
	guest_irq_handler = on_lpi;
	gic_init_distributor();
	gic_init_cpu();
	its_start(&its_memory, 1, ITS_DIRECT);
	for (u32 i = 0; i < EVENTS; i++)
		lpi_configure(LPI(64 * i), 0xa0, true);
	lpis_on(0);
	/* A command for which the host has no memory is lost, as one that is wrong. */
	while (!READ_ONCE(enough)) {
		its_mapd(DEVICE, its_memory.itt[0], ITT_BITS, true);
		its_mapc(0, 0, true);
		for (u32 i = 0; i < EVENTS; i++)
			its_mapti(DEVICE, i, LPI(64 * i), 0);
		GUEST_SYNC(1);
	}
	irq_enable();
	guest_delay_us(2000);
	irq_disable();
	for (u32 i = 0; i < EVENTS; i++)
		GUEST_CHECK_EQ(taken[i], i % 2);
	GUEST_SYNC(2);
}

static const u64 its_saved[] = { GITS_IIDR, GITS_CBASER, GITS_CREADR, GITS_CWRITER, GITS_BASER(0), GITS_BASER(1), GITS_CTLR };

static void forget_tables(struct vm *vm, int its, const u64 *regs)
{
	CHECK_OK(attr_set(vm->gic, KVM_DEV_ARM_VGIC_GRP_CTRL, KVM_DEV_ARM_VGIC_SAVE_PENDING_TABLES, NULL));
	CHECK_OK(attr_set(its, KVM_DEV_ARM_VGIC_GRP_CTRL, KVM_DEV_ARM_ITS_CTRL_RESET, NULL));
	for (u32 i = 0; i + 1 < ARRAY_SIZE(its_saved); i++)
		CHECK_OK(attr_set(its, KVM_DEV_ARM_VGIC_GRP_ITS_REGS, its_saved[i], &regs[i]));
}

static void messages(void)
{
	struct vm *vm = vm_create(.main = guest_maps, .gic = true);
	struct vcpu *vcpu = &vm->vcpus[0];
	u64 regs[ARRAY_SIZE(its_saved)];
	int its = its_create(vm, GUEST_ITS);
	int event = CHECK_OK(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
	struct kvm_irqfd irqfd = { .fd = event, .gsi = 9 }, no_irqfd = { .fd = event, .gsi = 9, .flags = KVM_IRQFD_FLAG_DEASSIGN };
	struct {
		struct kvm_irq_routing head;
		struct kvm_irq_routing_entry entry;
	} routing = { { .nr = 1 }, { .gsi = 9, .type = KVM_IRQ_ROUTING_MSI, .flags = KVM_MSI_VALID_DEVID } };

	routing.entry.u.msi = (struct kvm_irq_routing_msi){ .address_lo = GUEST_ITS + GITS_TRANSLATER, .data = 7, .devid = DEVICE };
	for (int i = 0; i < 5; i++)
		INJECT_AGAIN(run_to_sync(vcpu));
	CHECK_OK(run_to_sync(vcpu));
	INJECT_AGAIN(ioctl(vm->fd, KVM_SET_GSI_ROUTING, &routing));
	INJECT(ioctl(vm->fd, KVM_IRQFD, &irqfd), CHECK_OK(ioctl(vm->fd, KVM_IRQFD, &no_irqfd)));
	CHECK_EQ(INJECT_AGAIN(msi(vm, DEVICE, 1)), 1);
	CHECK_EQ(INJECT_AGAIN(msi(vm, DEVICE, 3)), 1);
	CHECK_EQ(INJECT_AGAIN(msi(vm, DEVICE, 5)), 1);
	CHECK(write(event, &(u64){ 1 }, 8) == 8);

	/* What is pending stays so, however often saving and restoring it has failed before. */
	INJECT_AGAIN(attr_set(vm->gic, KVM_DEV_ARM_VGIC_GRP_CTRL, KVM_DEV_ARM_VGIC_SAVE_PENDING_TABLES, NULL));
	INJECT_AGAIN(attr_set(its, KVM_DEV_ARM_VGIC_GRP_CTRL, KVM_DEV_ARM_ITS_SAVE_TABLES, NULL));
	for (u32 i = 0; i < ARRAY_SIZE(its_saved); i++) {
		INJECT_AGAIN(attr_has(its, KVM_DEV_ARM_VGIC_GRP_ITS_REGS, its_saved[i]));
		INJECT_AGAIN(attr_get(its, KVM_DEV_ARM_VGIC_GRP_ITS_REGS, its_saved[i], &regs[i]));
	}
	INJECT_AGAIN(attr_set(its, KVM_DEV_ARM_VGIC_GRP_CTRL, KVM_DEV_ARM_ITS_CTRL_RESET, NULL));
	for (u32 i = 0; i + 1 < ARRAY_SIZE(its_saved); i++)
		INJECT_AGAIN(attr_set(its, KVM_DEV_ARM_VGIC_GRP_ITS_REGS, its_saved[i], &regs[i]));
	INJECT(attr_set(its, KVM_DEV_ARM_VGIC_GRP_CTRL, KVM_DEV_ARM_ITS_RESTORE_TABLES, NULL), forget_tables(vm, its, regs));
	INJECT_AGAIN(attr_set(its, KVM_DEV_ARM_VGIC_GRP_ITS_REGS, GITS_CTLR, &regs[ARRAY_SIZE(its_saved) - 1]));
	VM_GLOBAL(vm, enough) = 1;
	vcpu_sync(vcpu, 2);
	close(event);
	close(its);
	vm_destroy(vm);
}

TEST_SECONDS(messages_of_devices, 120)
{
	struct held before;

	inject_setup();
	messages();
	ktap_note("%u failures", inject_count);
	CHECK(inject_count > 60);
	before = held_now();
	messages();
	held_compare(before);
}
