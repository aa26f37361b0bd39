/* What the Thrift demos serve. The Python code in gen/ is made of it by
   thrift --gen py -out demo/gen demo/calculator.thrift */
namespace py calculator

exception DivisionByZero {
  1: string message,
}

service Calculator {
  i64 add(1: i64 a, 2: i64 b),
  i64 divide(1: i64 a, 2: i64 b) throws (1: DivisionByZero error),
}

service Journal {
  oneway void note(1: string line),
  /** The last lines, oldest first. */
  list<string> lines(1: i32 most = 10),
}
