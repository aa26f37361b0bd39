/** What the tests of Thrift talk; the bindings in gen/ are made of it. */
namespace py example

enum Colour { RED = 1, GREEN = 2, BLUE = 4 }

struct Item {
  1: required i64 id,
  2: string name = "nameless",
  3: list<i64> numbers,
  4: optional map<string, double> weights,
  5: optional binary raw,
  6: optional set<i32> marks,
  7: bool flag = true,
  8: Colour colour = Colour.GREEN,
  9: optional byte small,
  10: optional i16 shorter,
}

struct Tree {
  1: i64 value,
  2: list<Tree> children,
}

exception Refused {
  1: string why,
  2: i32 code,
}

service Base {
  string ping(),
}

service Calculator extends Base {
  i64 add(1: i64 a, 2: i64 b = 10),
  i64 divide(1: i64 a, 2: i64 b) throws (1: Refused refused),
  Item echo(1: Item item),
  string text(1: string value),
  binary blob(1: binary data),
  map<string, list<i64>> table(1: map<string, list<i64>> given),
  set<string> words(),
  Tree tree(1: Tree tree),
  Colour paint(1: Colour colour),
  bool negate(1: bool value),
  void nothing(),
  /** Takes so many seconds. */
  double wait(1: double seconds),
  /** Raises what is not declared. */
  string fail(1: string message),
  oneway void note(1: string word),
  list<string> noted(),
}

service Clock {
  i64 now(),
}
