// Runs the scenario as WebAssembly: node run.mjs FILE. Prints the hash of its events and the number
// of acknowledged records, as the native program does.
import { readFileSync } from 'node:fs';

const module = new WebAssembly.Module(readFileSync(process.argv[2]));
const imports = WebAssembly.Module.imports(module);
if (imports.length > 0) {
  // A clock, entropy or a socket would have to come in here.
  console.error('the module asks for something from outside:', imports);
  process.exit(1);
}
const { sordini_scenario: run, sordini_scenario_records: records } = new WebAssembly.Instance(module).exports;
// A u64 comes as a signed BigInt.
const hash = BigInt.asUintN(64, run()).toString(16).padStart(16, '0');
console.log(`${hash} ${records()}`);
