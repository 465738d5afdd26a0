import type { JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { ILauncher } from '@jupyterlab/launcher';
import { ITranslator, nullTranslator } from '@jupyterlab/translation';
import { Widget } from '@lumino/widgets';
import { IEnvironments, type Environments } from '../environments';
import type { ListedBase } from '../model/rest';
import { tileText } from '../model/words';
import { descriptionOf, isOurs, tagOf } from '../notebook/kernel';

/** JupyterLab's command that opens a launcher. */
const CREATE = 'launcher:create';

/**
 * Tells on the launcher's tiles what our kernels run on: in a line under the name, and more on hover and to
 * screen readers. The name itself stays: the kernel dialog, notebooks and other clients know it by that.
 */
export const launcher: JupyterFrontEndPlugin<void> = {
  id: 'kernel-provisioner:launcher',
  description: 'Describes the kernels on shared torch in the launcher.',
  autoStart: true,
  requires: [IEnvironments],
  optional: [ILauncher, ITranslator],
  activate: (
    app: JupyterFrontEnd,
    { api }: Environments,
    found: ILauncher | null,
    translator: ITranslator | null
  ) => {
    if (!found) {
      return;
    }
    const trans = (translator ?? nullTranslator).load('kernel_provisioner');
    const { kernelspecs } = app.serviceManager;
    const open = new Set<Widget>();
    let bases: ListedBase[] = [];

    const describe = ({ node }: Widget) => {
      const specs = Object.values(kernelspecs.specs?.kernelspecs ?? {});
      node.querySelectorAll<HTMLElement>('.jp-LauncherCard').forEach(card => {
        const name = card.querySelector('.jp-LauncherCard-label p')?.textContent ?? '';
        const spec = specs.find(one => one?.display_name === name);
        if (isOurs(spec)) {
          write(card, tileText(tagOf(spec), bases, trans));
          const description = descriptionOf(spec);
          if (description) {
            card.title = `${name}\n${description}`;
            card.setAttribute('aria-description', description);
          }
        }
      });
    };
    const look = async () => {
      bases = await api.get<ListedBase[]>('bases').catch(() => []);
      open.forEach(describe);
    };
    // A tile has no place for more than a name, and a launcher no signal for new tiles:
    // https://github.com/jupyterlab/jupyterlab/blob/main/packages/launcher/src/widget.tsx
    const attend = (widget: Widget) => {
      const observer = new MutationObserver(() => describe(widget));
      observer.observe(widget.node, { childList: true, subtree: true });
      open.add(widget);
      widget.disposed.connect(() => {
        observer.disconnect();
        open.delete(widget);
      });
      describe(widget);
      void look();
    };
    app.commands.commandExecuted.connect((_, { id, result }) => {
      if (id === CREATE) {
        result.then(
          widget => widget instanceof Widget && attend(widget),
          () => undefined
        );
      }
    });
    kernelspecs.specsChanged.connect(() => {
      if (open.size > 0) {
        void look(); // another base may have brought them
      }
    });
  }
};

/** Put a line under the name of a card, or change the one that is there. */
function write(card: HTMLElement, text: string): void {
  let line = card.querySelector('.jp-TorchOverlay-tile');
  if (!line) {
    line = document.createElement('div');
    line.className = 'jp-TorchOverlay-tile';
    card.querySelector('.jp-LauncherCard-label')?.append(line);
  }
  if (line.textContent !== text) {
    line.textContent = text;
  }
}
