import type { JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import {
  Dialog,
  type ISessionContext,
  ISessionContextDialogs,
  SessionContextDialogs,
  showDialog
} from '@jupyterlab/apputils';
import { INotebookTracker, type NotebookPanel } from '@jupyterlab/notebook';
import { ISettingRegistry } from '@jupyterlab/settingregistry';
import { ITranslator, nullTranslator } from '@jupyterlab/translation';
import { Widget } from '@lumino/widgets';
import { IEnvironments, type Environments } from '../environments';
import type { Environment } from '../model/rest';
import { baseName, type Words } from '../model/words';
import type { NotebookEnvironment } from '../notebook/environment';

const ID = 'kernel-provisioner:ask';
const SETTING = 'askBeforeInstalling';

/** Before a kernel starts whose packages are not installed yet, says which they are: for those who want it. */
export const ask: JupyterFrontEndPlugin<void> = {
  id: ID,
  description: 'Asks before the packages of a notebook are installed, where a setting wants it.',
  autoStart: true,
  requires: [IEnvironments, INotebookTracker],
  optional: [ISettingRegistry, ISessionContextDialogs, ITranslator],
  activate: (
    _: JupyterFrontEnd,
    environments: Environments,
    notebooks: INotebookTracker,
    settings: ISettingRegistry | null,
    dialogs: ISessionContext.IDialogs | null,
    translator: ITranslator | null
  ) => {
    if (!settings) {
      return;
    }
    const trans = (translator ?? nullTranslator).load('kernel_provisioner');
    let wanted: boolean | null = null; // not known yet
    const loaded = settings.load(ID).then(
      found => {
        const take = () => {
          wanted = found.get(SETTING).composite === true;
        };
        found.changed.connect(take);
        take();
      },
      () => {
        wanted = false;
      }
    );
    notebooks.widgetAdded.connect((_, panel) => {
      if (wanted === false || !hold(panel)) {
        return;
      }
      void Promise.all([loaded, panel.sessionContext.ready]).then(async () => {
        const runs = Boolean(panel.sessionContext.session?.kernel); // the page was loaded again
        if (!wanted || runs || (await agreed(panel, environments.of(panel), trans))) {
          await release(panel, dialogs ?? new SessionContextDialogs());
        }
      });
    });
  }
};

/** Let a notebook start no kernel for now; one that runs is connected to. False where it starts none anyway. */
function hold(panel: NotebookPanel): boolean {
  const context = panel.sessionContext;
  const before = context.kernelPreference;
  if (before.shouldStart === false || before.canStart === false) {
    return false;
  }
  context.kernelPreference = { ...before, shouldStart: false };
  return true;
}

/** Start the kernel of a notebook that was held. */
async function release(panel: NotebookPanel, dialogs: ISessionContext.IDialogs): Promise<void> {
  const context = panel.sessionContext;
  context.kernelPreference = { ...context.kernelPreference, shouldStart: true };
  if (!context.isDisposed && !context.session?.kernel && (await context.startKernel())) {
    await dialogs.selectKernel(context);
  }
}

/** Whether a start would install something. */
function installs(state: Environment): boolean {
  const there = state.overlay.state === 'ready' || state.overlay.state === 'building';
  return state.extras.length > 0 && !there;
}

/** Whether a start installs nothing, or the user agrees to it; asked, too, where nobody knows what it installs. */
async function agreed(
  panel: NotebookPanel,
  environment: NotebookEnvironment,
  trans: Words
): Promise<boolean> {
  const body = document.createElement('div');
  try {
    const state = await environment.learn();
    if (!state || !installs(state)) {
      return true;
    }
    describe(state, body, trans);
  } catch (error) {
    line(trans.__('It is not known what its kernel would install:'), body);
    line(error instanceof Error ? error.message : String(error), body);
  }
  const answer = await showDialog({
    title: trans.__('Install the packages of %1?', panel.title.label),
    body: new Widget({ node: body }),
    buttons: [
      Dialog.cancelButton({ label: trans.__('Open Without Kernel') }),
      Dialog.okButton({ label: trans.__('Start and Install') })
    ],
    defaultButton: 0
  });
  return answer.button.accept;
}

/** Tell what a start would install. */
function describe(state: Environment, body: HTMLElement, trans: Words): void {
  line(
    state.base
      ? trans.__('Its kernel would install these packages on %1:', baseName(state.base))
      : trans.__('Its kernel would install these packages:'),
    body
  );
  const list = document.createElement('ul');
  state.extras.forEach(extra => line(extra, list, 'li'));
  body.append(list);
  for (const { name, like } of state.unfamiliar) {
    line(trans.__('%1 is new to this machine. Is %2 meant?', name, like), body);
  }
}

function line(text: string, under: HTMLElement, tag = 'p'): void {
  const part = document.createElement(tag);
  part.textContent = text;
  under.append(part);
}
