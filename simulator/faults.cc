#include "simulator/faults.h"

namespace snapkeeper {

std::string_view ToString(Verb verb) {
  switch (verb) {
    case Verb::kGet:
      return "get";
    case Verb::kList:
      return "list";
    case Verb::kWatch:
      return "watch";
    case Verb::kCreate:
      return "create";
    case Verb::kDelete:
      return "delete";
    case Verb::kPatch:
      return "patch";
    case Verb::kUpdate:
      return "update";
  }
  return "";
}

}  // namespace snapkeeper
