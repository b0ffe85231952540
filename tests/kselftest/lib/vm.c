// SPDX-License-Identifier: GPL-2.0
#include <elf.h>
#include <fcntl.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vm.h"

extern const u8 _end[];

static int system_fd = -1;

int sys_fd(void)
{
	if (system_fd < 0)
		sys_open(ktap_device);
	return system_fd;
}

void sys_open(const char *device)
{
	if (system_fd >= 0)
		close(system_fd);
	system_fd = open(device, O_RDWR | O_CLOEXEC);
	if (system_fd < 0)
		FAIL("%s: %s", device, strerror(errno));
}

int cap(long extension)
{
	return CHECK_OK(ioctl(sys_fd(), KVM_CHECK_EXTENSION, extension));
}

void *host_alloc(u64 size, u64 align)
{
	u8 *p = mmap(NULL, size + align, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	CHECK(p != MAP_FAILED);
	return (void *)ALIGN_UP((u64)p, align);
}

int vm_slot(struct vm *vm, u32 slot, u32 flags, u64 gpa, u64 size, void *memory)
{
	struct kvm_userspace_memory_region region = {
		.slot = slot, .flags = flags, .guest_phys_addr = gpa, .memory_size = size, .userspace_addr = (u64)memory
	};

	return ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &region);
}

void *vm_host(struct vm *vm, u64 guest_address)
{
	CHECK(guest_address >= GUEST_RAM && guest_address - GUEST_RAM < vm->ram_size);
	return vm->ram + (guest_address - GUEST_RAM);
}

u64 vm_alloc(struct vm *vm, u64 size, u64 align)
{
	u64 at = ALIGN_UP(vm->next, align);

	CHECK(at + size <= GUEST_RAM + vm->ram_size);
	vm->next = at + size;
	return at;
}

/* This program, as it is now, to where it is linked. */
static void load_image(struct vm *vm)
{
	const Elf64_Phdr *header = (const Elf64_Phdr *)getauxval(AT_PHDR);

	for (u64 n = getauxval(AT_PHNUM); n; n--, header++)
		if (header->p_type == PT_LOAD)
			memcpy(vm_host(vm, header->p_vaddr), (const void *)header->p_vaddr, header->p_memsz);
}

/* Stays for as long as the case does. */
static void bystander_create(struct vm *vm, u32 id)
{
	int fd = CHECK_OK(ioctl(vm->fd, KVM_CREATE_VCPU, id));
	struct kvm_vcpu_init init;

	CHECK_OK(ioctl(vm->fd, KVM_ARM_PREFERRED_TARGET, &init));
	init.features[0] |= 1 << KVM_ARM_VCPU_PSCI_0_2 | 1 << KVM_ARM_VCPU_POWER_OFF;
	CHECK_OK(ioctl(fd, KVM_ARM_VCPU_INIT, &init));
}

struct vm *vm_create_(const struct vm_options *options)
{
	struct vm *vm = calloc(1, sizeof(*vm));
	u32 vcpus = options->vcpus ? options->vcpus : 1;
	volatile u64 *table;

	CHECK(vm && vcpus <= VM_MAX_VCPUS);
	vm->gic = -1;
	vm->fd = CHECK_OK(ioctl(sys_fd(), KVM_CREATE_VM, options->type));
	vm->ram_size = VM_RAM_SIZE;
	vm->ram = host_alloc(vm->ram_size, 0x200000);
	vm->next = ALIGN_UP((u64)_end, 0x1000);
	load_image(vm);

	/* Identity: the first GiB as device memory, the others as normal memory; blocks, accessed, inner shareable. */
	table = &VM_GLOBAL(vm, guest_page_table[0]);
	table[0] = 0x401 | 1UL << 54 | 1UL << 53;
	for (u64 i = 1; i < 512; i++)
		table[i] = i << 30 | 0x701 | 1 << 2;

	CHECK_OK(vm_slot(vm, 0, 0, GUEST_RAM, vm->ram_size, vm->ram));
	for (u32 i = 0; i < vcpus; i++)
		vcpu_create(vm, i, options->features | (i && options->secondaries_off ? 1 << KVM_ARM_VCPU_POWER_OFF : 0), options->main, i);
	for (u32 i = 0; i < options->bystanders; i++)
		bystander_create(vm, vcpus + i);
	if (options->gic) {
		gic_create(vm);
		if (!options->no_gic_init)
			gic_init(vm);
	}
	return vm;
}

void vm_destroy(struct vm *vm)
{
	long size = CHECK_OK(ioctl(sys_fd(), KVM_GET_VCPU_MMAP_SIZE, 0));

	for (u32 i = 0; i < vm->vcpu_count; i++) {
		munmap(vm->vcpus[i].run, size);
		close(vm->vcpus[i].fd);
	}
	if (vm->gic >= 0)
		close(vm->gic);
	close(vm->fd);
	munmap(vm->ram, vm->ram_size);
	free(vm);
}

struct vcpu *vcpu_create(struct vm *vm, u32 id, u32 features, void (*entry)(u64), u64 arg)
{
	struct vcpu *vcpu = &vm->vcpus[vm->vcpu_count];
	struct kvm_vcpu_init init;
	struct guest_cpu *cpu;

	CHECK(vm->vcpu_count < VM_MAX_VCPUS);
	vcpu->vm = vm;
	vcpu->id = id;
	vcpu->fd = CHECK_OK(ioctl(vm->fd, KVM_CREATE_VCPU, id));
	vcpu->run = mmap(NULL, CHECK_OK(ioctl(sys_fd(), KVM_GET_VCPU_MMAP_SIZE, 0)), PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->fd, 0);
	CHECK(vcpu->run != MAP_FAILED);
	CHECK_OK(ioctl(vm->fd, KVM_ARM_PREFERRED_TARGET, &init));
	init.features[0] |= features | 1 << KVM_ARM_VCPU_PSCI_0_2;
	CHECK_OK(ioctl(vcpu->fd, KVM_ARM_VCPU_INIT, &init));

	vcpu->cpu = (struct guest_cpu *)vm_alloc(vm, sizeof(*cpu), 64);
	cpu = vm_host(vm, (u64)vcpu->cpu);
	cpu->entry = entry;
	cpu->arg = arg;
	cpu->stack = vm_alloc(vm, VM_STACK_SIZE, 16) + VM_STACK_SIZE;
	cpu->index = vm->vcpu_count++;
	reg_set(vcpu, CORE_REG(regs.pc), (u64)guest_boot);
	reg_set(vcpu, CORE_REG(regs.regs[0]), (u64)vcpu->cpu);
	return vcpu;
}

int gic_create(struct vm *vm)
{
	struct kvm_create_device device = { .type = KVM_DEV_TYPE_ARM_VGIC_V3 };
	u64 dist = GUEST_GICD, redist = GUEST_GICR;

	if (ioctl(vm->fd, KVM_CREATE_DEVICE, &device) < 0)
		FAIL("KVM_CREATE_DEVICE(VGIC_V3): %s", strerrorname_np(errno));
	vm->gic = device.fd;
	CHECK_OK(attr_set(vm->gic, KVM_DEV_ARM_VGIC_GRP_ADDR, KVM_VGIC_V3_ADDR_TYPE_DIST, &dist));
	CHECK_OK(attr_set(vm->gic, KVM_DEV_ARM_VGIC_GRP_ADDR, KVM_VGIC_V3_ADDR_TYPE_REDIST, &redist));
	return vm->gic;
}

void gic_init(struct vm *vm)
{
	u32 lines = 128;

	CHECK_OK(attr_set(vm->gic, KVM_DEV_ARM_VGIC_GRP_NR_IRQS, 0, &lines));
	CHECK_OK(attr_set(vm->gic, KVM_DEV_ARM_VGIC_GRP_CTRL, KVM_DEV_ARM_VGIC_CTRL_INIT, NULL));
}

static void irq_line(struct vm *vm, u32 type, u32 vcpu, u32 intid, int level)
{
	struct kvm_irq_level line = {
		.irq = type << KVM_ARM_IRQ_TYPE_SHIFT | (vcpu & KVM_ARM_IRQ_VCPU_MASK) << KVM_ARM_IRQ_VCPU_SHIFT | intid, .level = level
	};

	CHECK_OK(ioctl(vm->fd, KVM_IRQ_LINE, &line));
}

void vm_irq(struct vm *vm, u32 intid, int level)
{
	irq_line(vm, KVM_ARM_IRQ_TYPE_SPI, 0, intid, level);
}

void vm_ppi(struct vcpu *vcpu, u32 intid, int level)
{
	irq_line(vcpu->vm, KVM_ARM_IRQ_TYPE_PPI, vcpu->id, intid, level);
}

int attr_has(int fd, u32 group, u64 attr)
{
	struct kvm_device_attr a = { .group = group, .attr = attr };

	return ioctl(fd, KVM_HAS_DEVICE_ATTR, &a);
}

int attr_set(int fd, u32 group, u64 attr, const void *value)
{
	struct kvm_device_attr a = { .group = group, .attr = attr, .addr = (u64)value };

	return ioctl(fd, KVM_SET_DEVICE_ATTR, &a);
}

int attr_get(int fd, u32 group, u64 attr, void *value)
{
	struct kvm_device_attr a = { .group = group, .attr = attr, .addr = (u64)value };

	return ioctl(fd, KVM_GET_DEVICE_ATTR, &a);
}

int reg_try_get(struct vcpu *vcpu, u64 id, void *value)
{
	struct kvm_one_reg reg = { .id = id, .addr = (u64)value };

	return ioctl(vcpu->fd, KVM_GET_ONE_REG, &reg);
}

int reg_try_set(struct vcpu *vcpu, u64 id, const void *value)
{
	struct kvm_one_reg reg = { .id = id, .addr = (u64)value };

	return ioctl(vcpu->fd, KVM_SET_ONE_REG, &reg);
}

u64 reg_get(struct vcpu *vcpu, u64 id)
{
	u64 value = 0;

	if (reg_try_get(vcpu, id, &value))
		FAIL("KVM_GET_ONE_REG %#lx: %s", id, strerrorname_np(errno));
	return value;
}

void reg_set(struct vcpu *vcpu, u64 id, u64 value)
{
	if (reg_try_set(vcpu, id, &value))
		FAIL("KVM_SET_ONE_REG %#lx = %#lx: %s", id, value, strerrorname_np(errno));
}
