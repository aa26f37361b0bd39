/** What the benchmarks of Thrift call; benchmarks/gen/bench is made of it. */
namespace py benchmarks.gen.bench

struct Echo {
  1: bool flag,
  2: i8 small,
  3: i16 shorter,
  4: i32 number,
  5: i64 big,
  6: double ratio,
  7: string name,
  8: binary raw,
  9: list<i64> numbers,
  10: map<string, i32> counts,
}

service Bench {
  /** "pong". */
  string ping(),
  Echo echo(1: Echo value),
  /** Sleeps for so many seconds, then gives them back. */
  double wait(1: double seconds),
  /** Computes for so many seconds of CPU, then gives them back. */
  double compute(1: double seconds),
  oneway void note(1: i32 n),
}
