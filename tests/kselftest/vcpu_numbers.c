// SPDX-License-Identifier: GPL-2.0
/* KVM_CREATE_VCPU that fails leaves nothing behind; and several at once do not get into each other's way. */
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "abi.h"
#include "gic.h"

static u64 seen[64];

static void guest_seen(u64 index)
{
	seen[index] = read_sysreg(mpidr_el1) & 0xff00ffffff;
}

/* So many file descriptors as are open, and `more`. */
static void limit_fds(int more)
{
	struct rlimit limit = { 1, 1024 };
	int next = CHECK_OK(dup(0));

	close(next); /* the lowest that is free, and there are no gaps below it */
	limit.rlim_cur = next + more;
	CHECK_OK(setrlimit(RLIMIT_NOFILE, &limit));
}

static void unlimit_fds(void)
{
	struct rlimit limit = { 1024, 1024 };

	CHECK_OK(setrlimit(RLIMIT_NOFILE, &limit));
}

TEST(no_descriptor_left)
{
	struct vm *vm = vm_create(.main = guest_seen);
	int before = open_fds();

	limit_fds(0);
	for (int i = 0; i < 3; i++) {
		EXPECT_ERRNO(ioctl(vm->fd, KVM_CREATE_VCPU, 1), EMFILE);
		EXPECT_ERRNO(ioctl(vm->fd, KVM_CREATE_VCPU, 7), EMFILE);
	}
	EXPECT_ERRNO(ioctl(vm->fd, KVM_CREATE_VCPU, 0), EEXIST); /* that is found out first */
	unlimit_fds();
	EXPECT_EQ(open_fds(), before);
	/* The numbers are free still, and so are the indices. */
	vcpu_create(vm, 1, 0, guest_seen, 1);
	vcpu_create(vm, 7, 0, guest_seen, 2);
	vm_run_all(vm);
	CHECK_EQ(VM_GLOBAL(vm, seen[1]), 1);
	CHECK_EQ(VM_GLOBAL(vm, seen[2]), 7);
	EXPECT_ERRNO(ioctl(vm->fd, KVM_CREATE_VCPU, 7), EEXIST);
}

/* A vCPU that never came to be has no redistributor, and is not waited for. */
TEST(no_descriptor_left_with_gic)
{
	struct vm *vm = vm_create(.main = guest_seen, .gic = true, .no_gic_init = true);
	u32 v = 0;

	limit_fds(0);
	EXPECT_ERRNO(ioctl(vm->fd, KVM_CREATE_VCPU, 1), EMFILE);
	EXPECT_ERRNO(ioctl(vm->fd, KVM_CREATE_VCPU, 2), EMFILE);
	unlimit_fds();
	vcpu_create(vm, 2, 0, guest_seen, 1);
	gic_init(vm);
	/* The second is the last. */
	EXPECT_OK(attr_get(vm->gic, KVM_DEV_ARM_VGIC_GRP_REDIST_REGS, 2UL << 32 | GICR_TYPER, &v));
	EXPECT_EQ(v, 0x210);
	EXPECT_ERRNO(attr_get(vm->gic, KVM_DEV_ARM_VGIC_GRP_REDIST_REGS, 1UL << 32 | GICR_TYPER, &v), EINVAL);
	vm_run_all(vm);
	CHECK_EQ(VM_GLOBAL(vm, seen[1]), 2);
}

/* Other files fail the same way, and what they would have been for is not there. */
TEST(no_descriptor_for_others)
{
	struct kvm_create_device gic = { .type = KVM_DEV_TYPE_ARM_VGIC_V3 }, its = { .type = KVM_DEV_TYPE_ARM_VGIC_ITS };
	int vm = CHECK_OK(ioctl(sys_fd(), KVM_CREATE_VM, 0)), before = open_fds();

	limit_fds(0);
	EXPECT_ERRNO(ioctl(sys_fd(), KVM_CREATE_VM, 0), EMFILE);
	EXPECT_ERRNO(ioctl(vm, KVM_CREATE_DEVICE, &gic), EMFILE);
	EXPECT_ERRNO(ioctl(vm, KVM_CREATE_DEVICE, &its), EMFILE);
	unlimit_fds();
	EXPECT_EQ(open_fds(), before);
	EXPECT_EQ(ioctl(vm, KVM_CHECK_EXTENSION, KVM_CAP_MSI_DEVID), 0);
	close(CHECK_OK(ioctl(sys_fd(), KVM_CREATE_VM, 0)));
	CHECK_OK(ioctl(vm, KVM_CREATE_DEVICE, &gic));
	CHECK_OK(ioctl(vm, KVM_CREATE_DEVICE, &its));
	EXPECT_EQ(ioctl(vm, KVM_CHECK_EXTENSION, KVM_CAP_MSI_DEVID), 1);
	close(gic.fd);
	close(its.fd);
	close(vm);
}

#define THREADS 4
#define EACH 12
#define ROUNDS 15
static int vm_fd, gate;

static void *create_some(void *arg)
{
	u64 thread = (u64)arg;

	__atomic_add_fetch(&gate, 1, __ATOMIC_SEQ_CST);
	while (__atomic_load_n(&gate, __ATOMIC_SEQ_CST) < THREADS)
		;
	for (u64 i = 0; i < EACH; i++) {
		u64 number = i * THREADS + thread;
		int fd = ioctl(vm_fd, KVM_CREATE_VCPU, number);

		if (fd < 0)
			FAIL("KVM_CREATE_VCPU(%lu): %s", number, strerrorname_np(errno));
		close(fd);
	}
	return NULL;
}

TEST_SECONDS(different_numbers_at_once, 60)
{
	for (int round = 0; round < ROUNDS; round++) {
		pthread_t threads[THREADS];

		vm_fd = CHECK_OK(ioctl(sys_fd(), KVM_CREATE_VM, 0));
		gate = 0;
		for (u64 i = 0; i < THREADS; i++)
			CHECK(pthread_create(&threads[i], NULL, create_some, (void *)i) == 0);
		for (u64 i = 0; i < THREADS; i++)
			CHECK(pthread_join(threads[i], NULL) == 0);
		for (u64 number = 0; number < THREADS * EACH; number++)
			EXPECT_ERRNO(ioctl(vm_fd, KVM_CREATE_VCPU, number), EEXIST);
		close(vm_fd);
	}
}

static int won;

static void *create_same(void *arg)
{
	__atomic_add_fetch(&gate, 1, __ATOMIC_SEQ_CST);
	while (__atomic_load_n(&gate, __ATOMIC_SEQ_CST) < THREADS)
		;
	if (ioctl(vm_fd, KVM_CREATE_VCPU, 3) >= 0)
		__atomic_add_fetch(&won, 1, __ATOMIC_SEQ_CST);
	else
		CHECK_EQ(errno, EEXIST);
	return NULL;
}

/* Of several who want the same number one gets it. */
TEST_SECONDS(same_number_at_once, 60)
{
	for (int round = 0; round < 50; round++) {
		pthread_t threads[THREADS];

		vm_fd = CHECK_OK(ioctl(sys_fd(), KVM_CREATE_VM, 0));
		gate = won = 0;
		for (u64 i = 0; i < THREADS; i++)
			CHECK(pthread_create(&threads[i], NULL, create_same, NULL) == 0);
		for (u64 i = 0; i < THREADS; i++)
			CHECK(pthread_join(threads[i], NULL) == 0);
		CHECK_EQ(won, 1);
		close(vm_fd);
	}
}
