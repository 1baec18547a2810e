// Random numbers from a seed, the same in every browser: Math.random can't be started anew.

/** Return a function that gives uniform numbers in [0, 1): a 32-bit counter, mixed (the finaliser of MurmurHash3). */
export function uniform(seed) {
  let count = seed >>> 0;
  return () => {
    count = (count + 0x9e3779b9) >>> 0;
    let mixed = count;
    mixed = Math.imul(mixed ^ (mixed >>> 16), 0x85ebca6b);
    mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35);
    return ((mixed ^ (mixed >>> 16)) >>> 0) / 2 ** 32;
  };
}

/** Return a function that gives standard normal numbers, two uniform ones for each (Box and Muller). */
export function normal(seed) {
  const next = uniform(seed);
  return () => Math.sqrt(-2 * Math.log(1 - next())) * Math.cos(2 * Math.PI * next());
}
