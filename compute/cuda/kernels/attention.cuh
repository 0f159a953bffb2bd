// What the attention kernels share.
#pragma once
#include "spin.cuh"

#define ATTENTION_KEYS 32     /* keys at a time: one a lane */
#define ATTENTION_THREADS 512 /* at most: 16 query heads to a key head */
#define ATTENTION_DIMS 8      /* elements of a head a lane holds at most: heads of up to 256 */
