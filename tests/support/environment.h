#ifndef SNAPKEEPER_TESTS_SUPPORT_ENVIRONMENT_H_
#define SNAPKEEPER_TESTS_SUPPORT_ENVIRONMENT_H_

#include <absl/strings/numbers.h>

#include <cstdio>
#include <cstdlib>

namespace snapkeeper {

// The whole number, `at_least` or more, that this variable names; `otherwise` where it is not set.
// Anything else ends the test: a typo must not pass by running nothing.
inline int FromEnvironment(const char* name, int otherwise, int at_least = 1) {
  const char* text = std::getenv(name);
  if (text == nullptr) return otherwise;
  int value = 0;
  if (absl::SimpleAtoi(text, &value) && value >= at_least) return value;
  std::fprintf(stderr, "%s: \"%s\" is no whole number of at least %d\n", name, text, at_least);
  std::exit(2);
}

}  // namespace snapkeeper

#endif  // SNAPKEEPER_TESTS_SUPPORT_ENVIRONMENT_H_
