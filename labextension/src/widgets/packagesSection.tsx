import * as React from 'react';
import {
  declared,
  extrasOf,
  nameOf,
  renamed,
  undeclared,
  withVersion
} from '../model/requirements';
import { plural } from '../model/lock';
import type { Declared, Packages } from '../model/rest';
import type { Proposal } from '../notebook/actions';
import { read } from '../notebook/declarations';
import type { NotebookEnvironment } from '../notebook/environment';
import { AddField } from './addField';
import { DeclaredRow } from './declaredRow';
import { NewerCheck } from './newerCheck';
import { CameAlong, PackageName } from './packageTree';
import type { PanelProps } from './panelBody';
import { Busy, failureOf, Press, Section } from './parts';
import { ProposalCard, type Done } from './proposalCard';
import { Unkept } from './unkept';
import { VersionEditor } from './versionEditor';

const NOTHING: Packages = { declared: [], by_hand: [], others: [], replaced: {} };

/** What the notebook declares, what is there of it, and how to change that. */
export function PackagesSection(props: PanelProps): React.JSX.Element {
  const { environment, trans, state } = props;
  // Numbered: each proposal has a card of its own, even one that is made a second time.
  const [shown, setShown] = React.useState<{ number: number; proposal: Proposal | null }>({
    number: 0,
    proposal: null
  });
  const { number, proposal } = shown;
  const [changing, setChanging] = React.useState(false);
  const [done, setDone] = React.useState<Done | null>(null);
  const [edited, setEdited] = React.useState('');
  const [found, setFound] = React.useState<Record<string, string> | null>(null);
  const undo = done?.undo;
  const packages = state.packages ?? NOTHING;
  const newer = found && stillNewer(found, packages.declared);
  // What a cell's block declares is changed there.
  const inMetadata = new Set(extrasOf(said(environment)).map(nameOf));
  const ours = packages.declared.filter(one => inMetadata.has(one.name));
  const show = (next: Proposal) => {
    setDone(null);
    setEdited('');
    setShown({ number: number + 1, proposal: next });
  };
  const propose = (title: string, change: Proposal['change'], install: string[]) =>
    show({ title, change, install });
  const add = (requirement: string) =>
    propose(trans.__('Add %1', requirement), extras => declared(extras, [requirement]), [
      requirement
    ]);
  const upgradeAll = (versions: Record<string, string>) => {
    const upgraded = ours.filter(one => versions[one.name] !== undefined);
    const to = (sign: string) =>
      upgraded.map(one => withVersion(one.requirement, `${sign}${versions[one.name] ?? ''}`));
    propose(trans.__('Upgrade all'), extras => declared(extras, to('>=')), to('=='));
  };
  return (
    <Section
      title={trans.__('Packages')}
      hint={state.packages && plural(packages.declared.length, trans)}
      open
    >
      <fieldset className="jp-TorchOverlay-changing" disabled={changing}>
        <AddField environment={environment} trans={trans} add={add} />
        {proposal && (
          <ProposalCard
            key={number}
            environment={environment}
            proposal={proposal}
            trans={trans}
            busy={setChanging}
            close={what => {
              setShown(now => (now.number === number ? { number, proposal: null } : now));
              setDone(what);
            }}
            correct={(name, meant) =>
              propose(
                trans.__('Use %1 instead of %2', meant, name),
                extras => renamed(proposal.change(extras), name, meant),
                renamed(proposal.install, name, meant)
              )
            }
          />
        )}
        <div role="status" className="jp-TorchOverlay-line">
          {done && (
            <>
              <span>{done.text}</span>
              {undo && (
                <Press
                  look="link"
                  onClick={() => {
                    undo().then(
                      () => setDone(null),
                      (error: unknown) => setDone({ ...done, text: failureOf(error).what })
                    );
                  }}
                  title={trans.__('Let the notebook declare what it declared before')}
                >
                  {trans.__('Undo')}
                </Press>
              )}
            </>
          )}
        </div>
        {done && done.commands.length > 0 && (
          <Unkept environment={environment} trans={trans} commands={done.commands} />
        )}
        {!state.packages ? (
          <Busy text={trans.__('Looking at its packages …')} trans={trans} />
        ) : packages.declared.length > 0 ? (
          <ul className="jp-TorchOverlay-packages" aria-label={trans.__('Declared packages')}>
            {packages.declared.map(one => (
              <DeclaredRow
                key={one.name}
                one={one}
                newer={newer?.[one.name]}
                like={state.unfamiliar.find(other => other.name === one.name)?.like}
                replaced={packages.replaced[one.name]?.[0]}
                declaredInMetadata={inMetadata.has(one.name)}
                trans={trans}
                upgrade={version =>
                  propose(
                    trans.__('Upgrade %1 to %2', one.name, version),
                    extras => declared(extras, [withVersion(one.requirement, `>=${version}`)]),
                    [withVersion(one.requirement, `==${version}`)]
                  )
                }
                pin={version =>
                  propose(
                    trans.__('Pin %1 to %2', one.name, version),
                    extras => declared(extras, [withVersion(one.requirement, `==${version}`)]),
                    []
                  )
                }
                remove={() =>
                  propose(
                    trans.__('Remove %1', one.name),
                    extras => undeclared(extras, [one.name]),
                    []
                  )
                }
                edit={() => setEdited(edited === one.name ? '' : one.name)}
                editor={
                  edited === one.name && (
                    <VersionEditor
                      environment={environment}
                      one={one}
                      trans={trans}
                      propose={requirement =>
                        propose(
                          trans.__('Declare %1', requirement),
                          extras => declared(extras, [requirement]),
                          [requirement]
                        )
                      }
                      close={() => setEdited('')}
                    />
                  )
                }
                instead={name =>
                  propose(
                    trans.__('Use %1 instead of %2', name, one.name),
                    extras => declared(undeclared(extras, [one.name]), [name]),
                    [name]
                  )
                }
              />
            ))}
          </ul>
        ) : (
          <p className="jp-TorchOverlay-hint">
            {state.base
              ? trans.__('This notebook declares no packages: it runs on what its base has.')
              : trans.__('This notebook declares no packages.')}
          </p>
        )}
        {ours.length > 0 && (
          <NewerCheck
            environment={environment}
            trans={trans}
            tell={setFound}
            found={newer}
            upgradeAll={() => upgradeAll(newer ?? {})}
            names={ours.map(one => one.name)}
          />
        )}
        {packages.by_hand.length > 0 && (
          <>
            <h4>{trans.__('Added by hand')}</h4>
            <p className="jp-TorchOverlay-hint">
              {trans.__('Not declared: who opens this notebook elsewhere does not have them.')}
            </p>
            <ul className="jp-TorchOverlay-packages" aria-label={trans.__('Added by hand')}>
              {packages.by_hand.map(one => (
                <li key={one.name}>
                  <PackageName one={one} />
                  <div className="jp-TorchOverlay-rowButtons">
                    <Press
                      onClick={() =>
                        propose(
                          trans.__('Declare %1', one.name),
                          extras => declared(extras, [one.name]),
                          []
                        )
                      }
                      title={trans.__(
                        'Write it into this notebook, so that it is there next time too'
                      )}
                      label={trans.__('Declare %1', one.name)}
                    >
                      {trans.__('Declare')}
                    </Press>
                    <Press
                      look="link"
                      disabled={state.running?.entered !== true}
                      onClick={() =>
                        show({
                          title: trans.__('Remove %1', one.name),
                          change: extras => [...extras],
                          install: [],
                          uninstall: one
                        })
                      }
                      title={trans.__('Uninstall it from the running kernel')}
                      label={trans.__('Remove %1', one.name)}
                    >
                      {trans.__('Remove')}
                    </Press>
                  </div>
                </li>
              ))}
            </ul>
          </>
        )}
        {packages.others.length > 0 && (
          <CameAlong declared={packages.declared} others={packages.others} trans={trans} />
        )}
      </fieldset>
    </Section>
  );
}

/** Of the versions that were found, those that are not installed meanwhile. */
function stillNewer(
  found: Record<string, string>,
  packages: readonly Declared[]
): Record<string, string> {
  const newer = packages.filter(one => one.installed !== (found[one.name] ?? one.installed));
  return Object.fromEntries(newer.map(one => [one.name, found[one.name] ?? '']));
}

function said(environment: NotebookEnvironment): unknown {
  return environment.panel.model ? read(environment.panel.model) : undefined;
}
