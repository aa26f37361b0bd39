# fb303: what any service tells of itself, and the few things that can be asked of it.
#
# The names and the numbers are a wire format that monitoring tools know; do not change them.
# The bindings in sparts/gen/fb303 are made of this file; setup.py makes them anew.

namespace py sparts.gen.fb303

/** Where a service stands in its life. */
enum fb_status {
  /** It does not run. */
  DEAD = 0,
  /** It is starting, and serves nothing yet. */
  STARTING = 1,
  /** It runs, and all is well. */
  ALIVE = 2,
  /** It is finishing what is under way. */
  STOPPING = 3,
  /** It has ended, as it was asked to. */
  STOPPED = 4,
  /** It runs, but something is wrong; getStatusDetails tells what. */
  WARNING = 5,
}

/** The service that every service can be, beside what it is for. */
service FacebookService {
  /** The service's name. */
  string getName(),

  /** The version of its code; empty where it has none. */
  string getVersion(),

  /** Where it stands in its life. */
  fb_status getStatus(),

  /** What there is to say about that, for people to read; empty where there is nothing. */
  string getStatusDetails(),

  /** All counters, by name. */
  map<string, i64> getCounters(),

  /** The counter of that name. */
  i64 getCounter(1: string key),

  /** Gives the option of that name another value, from now on. */
  void setOption(1: string key, 2: string value),

  /** The value of the option of that name. */
  string getOption(1: string key),

  /** All options, by name. */
  map<string, string> getOptions(),

  /** What the process spent its time on during the next so many seconds, for people to read. */
  string getCpuProfile(1: i32 profileDurationInSec),

  /** When it started, in Unix seconds. */
  i64 aliveSince(),

  /** Asks it to start anew with the same options; returns at once. */
  oneway void reinitialize(),

  /** Asks it to stop gracefully; returns at once. */
  oneway void shutdown(),
}
