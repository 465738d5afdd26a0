import * as React from 'react';
import { partsOf } from '../model/requirements';
import type { Declared } from '../model/rest';
import { bytes } from '../model/words';
import { Press } from './parts';
import type { PanelProps } from './panelBody';

/** A declared package: what is wanted, what is there, and what can be done with it. */
export function DeclaredRow(props: {
  one: Declared;
  newer: string | undefined;
  /** The well-known name that this one may be a slip for. */
  like: string | undefined;
  replaced: string | undefined;
  declaredInMetadata: boolean;
  trans: PanelProps['trans'];
  upgrade: (version: string) => void;
  pin: (version: string) => void;
  remove: () => void;
  instead: (name: string) => void;
  /** Open the editor of its versions and extras. */
  edit: () => void;
  /** That editor, where it is open. */
  editor: React.ReactNode;
}): React.JSX.Element {
  const {
    one,
    newer,
    like,
    replaced,
    declaredInMetadata,
    trans,
    upgrade,
    pin,
    remove,
    instead,
    edit,
    editor
  } = props;
  const installed = one.installed;
  const pinned = /(^|[^=])==[^=]/.test(one.requirement);
  const facts = [
    installed === null ? trans.__('not installed yet') : installed,
    ...(one.in_base ? [trans.__('in the base')] : []),
    ...(one.bytes > 0 ? [bytes(one.bytes)] : []),
    ...(replaced ? [trans.__('in place of %1', replaced)] : [])
  ];
  return (
    <li>
      <div className="jp-TorchOverlay-package">
        <code>{one.requirement}</code>
        <span className="jp-TorchOverlay-hint">{facts.join(' · ')}</span>
        {like && (
          <span className="jp-TorchOverlay-warning">
            {trans.__('New to this machine. Is %1 meant?', like)}
          </span>
        )}
      </div>
      {declaredInMetadata ? (
        <div className="jp-TorchOverlay-rowButtons">
          {like && (
            <Press onClick={() => instead(like)} label={trans.__('Use %1 instead', like)}>
              {trans.__('Use %1', like)}
            </Press>
          )}
          {newer && (
            <Press
              onClick={() => upgrade(newer)}
              label={trans.__('Upgrade %1 to %2', one.name, newer)}
            >
              {trans.__('Upgrade to %1', newer)}
            </Press>
          )}
          {installed !== null && !pinned && !one.in_base && (
            <Press
              look="link"
              onClick={() => pin(installed)}
              title={trans.__('Keep exactly %1', installed)}
              label={trans.__('Pin %1 to %2', one.name, installed)}
            >
              {trans.__('Pin')}
            </Press>
          )}
          {partsOf(one.requirement) && (
            <Press
              look="link"
              onClick={edit}
              label={trans.__('Change the versions of %1', one.name)}
            >
              {trans.__('Version…')}
            </Press>
          )}
          <Press look="link" onClick={remove} label={trans.__('Remove %1', one.name)}>
            {trans.__('Remove')}
          </Press>
        </div>
      ) : (
        <span className="jp-TorchOverlay-hint" title={trans.__('Change it in that cell')}>
          {trans.__('in a # /// script cell')}
        </span>
      )}
      {editor}
    </li>
  );
}
