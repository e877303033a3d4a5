// Loads of 8x8 matrices of 16-bit elements from shared memory into a warp's registers (sm_75).
// PTX ISA, "Warp Level Matrix Multiply-Accumulate Instructions: ldmatrix".
//
// Lane 8 i + r passes the address of row r of matrix i: 16 contiguous, 16-byte aligned bytes. Lane
// l receives of matrix i, in r[i], elements 2 (l % 4) and + 1 of row l / 4; with trans, of column
// l / 4.
#pragma once

#include <cstdint>

namespace based::ptx {

__device__ inline void ldmatrix_x4(std::uint32_t (&r)[4], const void* shared_row) {
  const auto address = static_cast<std::uint32_t>(__cvta_generic_to_shared(shared_row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address)
               : "memory");
}

__device__ inline void ldmatrix_x4_trans(std::uint32_t (&r)[4], const void* shared_row) {
  const auto address = static_cast<std::uint32_t>(__cvta_generic_to_shared(shared_row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address)
               : "memory");
}

}  // namespace based::ptx
