// SPDX-License-Identifier: GPL-2.0

#include <linux/arm-smccc.h>
#include <asm/cpufeature.h>

int loft_arm_smccc_arch_features(u32 function)
{
	struct arm_smccc_res res;

	arm_smccc_1_1_invoke(ARM_SMCCC_ARCH_FEATURES_FUNC_ID, function, &res);
	return (int)res.a0;
}

bool loft_cpus_have_cap(unsigned int capability)
{
	return cpus_have_cap(capability);
}

bool loft_system_supports_address_auth(void)
{
	return system_supports_address_auth();
}
