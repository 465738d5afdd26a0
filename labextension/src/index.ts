import type { JupyterFrontEndPlugin } from '@jupyterlab/application';
import { ask } from './plugins/ask';
import { chip } from './plugins/chip';
import { edits } from './plugins/edits';
import { environments } from './plugins/environments';
import { launcher } from './plugins/launcher';
import { missingModule } from './plugins/missingModule';
import { panel } from './plugins/panel';
import { progress } from './plugins/progress';
import { status } from './plugins/status';

/** One plugin for each concern; each can be switched off by itself. */
const plugins: JupyterFrontEndPlugin<unknown>[] = [
  environments,
  chip,
  panel,
  missingModule,
  launcher,
  progress,
  status,
  ask,
  edits
];

export default plugins;
