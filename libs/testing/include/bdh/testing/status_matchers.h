// BDH_ASSERT_OK_AND_ASSIGN(auto store, Store::Open(folder));   and   BDH_EXPECT_OK(store->Tag(...));
#pragma once

#include <gtest/gtest.h>

#include "bdh/base/status_macros.h"

#define BDH_EXPECT_OK(expr)                                        \
  do {                                                             \
    const auto& bdh_status = (expr);                               \
    EXPECT_TRUE(bdh_status.ok()) << ::bdh::StatusText(bdh_status); \
  } while (false)
#define BDH_ASSERT_OK(expr)                                        \
  do {                                                             \
    const auto& bdh_status = (expr);                               \
    ASSERT_TRUE(bdh_status.ok()) << ::bdh::StatusText(bdh_status); \
  } while (false)
#define BDH_ASSERT_OK_AND_ASSIGN(lhs, expr) \
  BDH_ASSERT_OK_AND_ASSIGN_IMPL(BDH_CONCAT(bdh_test_, __LINE__), lhs, expr)
#define BDH_ASSERT_OK_AND_ASSIGN_IMPL(tmp, lhs, expr)       \
  auto tmp = (expr);                                        \
  ASSERT_TRUE(tmp.ok()) << ::bdh::StatusText(tmp.status()); \
  lhs = *std::move(tmp)

namespace bdh {

inline std::string StatusText(const absl::Status& status) {
  return status.ToString();
}
template <class T>
std::string StatusText(const absl::StatusOr<T>& status) {
  return status.status().ToString();
}

}  // namespace bdh
